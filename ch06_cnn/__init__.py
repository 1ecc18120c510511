"""Chapter 6: convolutional networks - from one convolution by hand to a speed run.

cnn               the book's network on CIFAR-10 with its errors corrected, its filters, feature maps and Grad-CAM
classics          ten architectures from LeNet to DenseNet for 32x32 pixels, trained by one loop
speedrun          the highest accuracy within a time budget; every technique has a switch
transfer          transfer learning with few labels: frozen features, fine-tuning, training from scratch
detection         boxes and classes of the objects of an image, with anchors (SSD) or cells (YOLO)
segmentation      the class of every pixel, by a fully convolutional network (FCN) or U-Net
cross_validation  five folds of electron-microscope slices, beside thresholds
spatial           spatial transformers, which learn to find, rotate and crop a digit
style             style transfer: optimise the pixels of one picture for content and style
style_features    results of style transfer with four feature networks side by side
fast_style        fast style transfer: a feed-forward network for one style
throughput        throughput of augmentation and of training, and the share of the processor's peak rate
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
