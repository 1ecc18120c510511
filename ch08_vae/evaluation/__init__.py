"""Evaluation of generative models, in reading order.

likelihood          the ELBO, its two terms, importance-weighted bounds, active units
classifier          a digit classifier whose features and predictions are used to evaluate samples
sample_quality      Fréchet distance, precision and recall, sharpness, classes covered
compare_generators  the program that compares VAE, GAN and diffusion model at equal training time
"""
