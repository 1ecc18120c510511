"""Ten classic networks for 32x32 pixels, and one with weights trained on ImageNet; read in this order.

classics           the program: one training loop for the ten
lenet              LeNet-5 (LeCun et al. 1998)
alexnet            AlexNet (Krizhevsky et al. 2012)
vgg                VGG-11 (Simonyan & Zisserman 2015)
nin                network in network (Lin et al. 2014)
googlenet          GoogLeNet (Szegedy et al. 2015)
resnet             ResNet-18 (He et al. 2016)
preactivation      pre-activation ResNet-18 (He et al. 2016b)
stochastic_depth   ResNet-56 with stochastic depth (Huang et al. 2016)
wide_resnet        wide ResNet WRN-16-4 (Zagoruyko & Komodakis 2016)
densenet           DenseNet (Huang et al. 2017)
efficientnet_lite  EfficientNet-Lite0 (Tan & Le 2019) for pictures of any size, and its ImageNet weights
"""
