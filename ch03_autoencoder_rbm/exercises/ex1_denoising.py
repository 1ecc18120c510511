"""Find the bug: the loss of a denoising autoencoder (10 minutes)

A denoising autoencoder receives an image with noise, clamped to [0, 1], and is trained to return the image without
noise (Vincent et al. 2008). Its loss is the mean squared error between its output and the image x.

With the function below, a network that returns its input has the loss 0, but it removes no noise. Why?

Check: python -m ch03_autoencoder_rbm.exercises 1
"""

from collections.abc import Callable

from torch import Tensor


def denoising_loss(network: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor) -> Tensor:
    """Network, (B, P) pixels in [0, 1], (B, P) noise -> () loss"""
    # Find the bug, then delete this comment.
    x = (x + noise).clamp(0, 1)
    return (network(x) - x).square().mean()
