"""Find the bug: a wrong KL term (10 minutes)

The KL divergence between the approximate posterior N(mu, sigma^2) of each latent unit and the prior N(0, 1) is

    KL = 1/2 sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2).

The encoder returns mu and `logvar`, which is log sigma^2. A KL divergence is never negative, and 0 only if both
distributions are equal. The function below violates the first of these laws. Why?

Check: python -m ch08_vae.exercises 1
"""

import torch
from torch import Tensor


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """(B, L) means, (B, L) log sigma^2 -> (B,) KL divergences"""
    # Find the bug, then delete this comment.
    sigma = torch.exp(logvar / 2)
    return (mu**2 + sigma**2 - 1 - torch.log(sigma)).sum(1) / 2
