"""Chapter 6: convolutional networks - from one convolution by hand to a speed run.

cnn          the book's network on CIFAR-10, its defects mended, and what it looks at
classics     LeNet, AlexNet, VGG, NiN, GoogLeNet, ResNet, DenseNet for 32x32 pixels, trained by one loop
speedrun     as accurate as a minute of training allows, every trick a switch
throughput   what feeding the network costs, and how much of the processor it uses
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
