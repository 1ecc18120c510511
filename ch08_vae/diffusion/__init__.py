"""Diffusion models, in reading order.

schedule   noise schedules, the noising process, mean and variance of its posterior
network    a U-Net with time and class embeddings
sampling   generate images: the ancestral step, the DDIM step, classifier-free guidance
diffusion  the program that trains a diffusion model
pictures   figures, and an animation of the denoising
"""
