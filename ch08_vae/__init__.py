"""Chapter 8: generative models - autoencoders, adversarial networks, diffusion, and what they are used for.

vae                  the variational autoencoder, with the exact KL term or the book's
latent_sweep         VAEs with 2, 5, 8 and 20 latent units, and plain autoencoders of the same shape
gan                  generative adversarial networks, with measures of mode collapse
mixture              six ways to train a pair on a planted mixture of Gaussians, with the number of modes found
diffusion            a diffusion model with guidance, and sampling in few steps
compare_generators   VAE, GAN and diffusion model after equal training time
semi_supervised_gan  ten classes from 100 labels: a GAN whose discriminator is the classifier
semi_supervised_vae  ten classes from 100 labels: a VAE with the class as a latent variable
anomalies            detection of a class held out of training, by the bounds of a VAE
throughput           throughput of the VAE's training step: float32, bfloat16, gradients by hand
peers                images per second and loss, compared with the VAE of pytorch/examples
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
