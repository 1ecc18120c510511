"""Chapter 8: generative models - networks that draw digits nobody has written.

vae             the variational autoencoder: the book's network with the right KL term, honestly measured
latent_sweep    2, 5, 8 and 20 latent units, and beside each a plain autoencoder of the same shape
gan             a generator against a discriminator, watched for collapse, judged beside the VAE
throughput      throughput of the VAE's training step: float32, bfloat16, gradients by hand
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
