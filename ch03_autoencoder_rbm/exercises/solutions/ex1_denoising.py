"""Solution: the target is the image without noise.

In the function with the bug, x is the noisy image in both places. A network that returns its
input then has the loss 0.
"""

from collections.abc import Callable

from torch import Tensor


def denoising_loss(network: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor) -> Tensor:
    """Network, (B, P) pixels in [0, 1], (B, P) noise -> () loss"""
    noisy = (x + noise).clamp(0, 1)
    return (network(noisy) - x).square().mean()
