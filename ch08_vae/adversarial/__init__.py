"""Generative adversarial networks.

gan  generator, discriminator, measures of mode collapse, and the program that trains them
"""
