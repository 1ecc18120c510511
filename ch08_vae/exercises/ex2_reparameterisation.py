"""Reparameterisation (5 minutes)

A sample of N(mu, sigma^2) is computed from noise of N(0, 1), so that gradients reach mu and sigma:

    z = mu + sigma epsilon.

The encoder returns mu and `logvar`, which is log sigma^2. Return z.

Check: python -m ch08_vae.exercises 2
"""

from torch import Tensor


def sample(mu: Tensor, logvar: Tensor, epsilon: Tensor) -> Tensor:
    """(B, L) means, (B, L) log sigma^2, (B, L) standard normal noise -> (B, L) samples"""
    raise NotImplementedError
