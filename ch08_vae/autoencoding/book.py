"""The book's KL term, kept for comparison; `--kl book` of the vae program trains with it.

Dimensions: B batch, Z latent units.
"""

from torch import Tensor

from ch08_vae.autoencoding.networks import kl_divergence


def book_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """(B, Z) -> (B, Z) the book's KL term, with log sigma in place of log sigma^2

    The book's program computes (mu^2 + sigma - 1 - log sigma) / 2 instead of (mu^2 + sigma^2 - 1 - log sigma^2) / 2.
    Both are 0 for mu = 0, sigma = 1. For a small sigma the book's term is about -log(sigma) / 2, half of the KL
    divergence. The loss is then not a bound of the log-likelihood, and training gives a larger KL divergence.
    """
    return kl_divergence(mu, logvar / 2)
