"""Transfer learning: a network trained on one task is reused for another with few labels; read in this order.

transfer  the program: frozen features, fine-tuning of the last stages or of all layers, training from scratch
logistic  multinomial logistic regression with L-BFGS, on standardised features
features  outputs of frozen layers, computed once for each image
sources   the pre-trained networks: ImageNet, or the other half of the classes
"""
