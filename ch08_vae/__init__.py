"""Chapter 8: generative models - variational autoencoders and generative adversarial networks.

vae                  the variational autoencoder, with the exact KL term or the book's
latent_sweep         VAEs with 2, 5, 8 and 20 latent units, and plain autoencoders of the same shape
gan                  a generative adversarial network, with measures of mode collapse
semi_supervised_gan  ten classes from 100 labels: a GAN whose discriminator is the classifier
semi_supervised_vae  ten classes from 100 labels: a VAE with the class as a latent variable
throughput           throughput of the VAE's training step: float32, bfloat16, gradients by hand
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
