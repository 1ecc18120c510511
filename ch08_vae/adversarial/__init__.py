"""Generative adversarial networks; read in this order.

losses    non-saturating and Wasserstein losses, gradient penalty
spectral  spectral normalisation by hand
networks  generators and discriminators for images and for points
steps     one training step of both networks
gan       the program for images, with measures of mode collapse
mixtures  planted mixtures of Gaussians, and the modes that samples have found
mixture   the program that compares six ways of training on a mixture
pictures  samples during training, as a figure and as an animation
"""
