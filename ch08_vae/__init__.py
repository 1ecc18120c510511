"""Chapter 8: generative models - variational autoencoders and generative adversarial networks.

vae             the variational autoencoder, with the exact KL term or the book's
latent_sweep    VAEs with 2, 5, 8 and 20 latent units, and plain autoencoders of the same shape
gan             a generative adversarial network, with measures of mode collapse
mixture         six ways to train a pair on a planted mixture of Gaussians, with the number of modes found
throughput      throughput of the VAE's training step: float32, bfloat16, gradients by hand
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
