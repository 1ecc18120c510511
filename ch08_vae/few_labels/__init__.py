"""Learning with few labels, in reading order.

labelled             a balanced sample of labelled images, and the other images without labels
baselines            the same network, logistic regression and nearest neighbours on the labelled images only
weight_norm          linear layer with weight normalisation and data-dependent initialisation
networks             classifier (also the discriminator) and generator of the semi-supervised GAN
losses               K + 1 classes, feature matching
semi_supervised_gan  the program that trains a classifier against a generator
m2                   the semi-supervised VAE M2: class and style as latent variables, its bounds
semi_supervised_vae  the program that trains M2
figures              labelled images, errors, generated images, analogies
"""
