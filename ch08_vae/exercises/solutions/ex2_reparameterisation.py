"""Solution: sigma is exp(logvar / 2).

The root of sigma^2 = exp(logvar) is exp(logvar / 2).
"""

from torch import Tensor


def sample(mu: Tensor, logvar: Tensor, epsilon: Tensor) -> Tensor:
    """(B, L) means, (B, L) log sigma^2, (B, L) standard normal noise -> (B, L) samples"""
    return mu + (logvar / 2).exp() * epsilon
