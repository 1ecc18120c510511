"""Variational autoencoders, in reading order.

networks      encoder and decoder, reparameterisation, likelihood of the pixels, KL divergence
vae           the program that trains a variational autoencoder
book          the book's KL term
pictures      figures: samples, reconstructions, interpolations, latent plane, traversals
latent_sweep  the program that compares numbers of latent units, and plain autoencoders
anomalies     the program that detects a class held out of training
by_hand       the training step with gradients written by hand
throughput    the program that measures the throughput of training
examples_vae  the VAE of pytorch/examples: the published file, or an equivalent loop
peers         the program that compares ours with it
"""
