"""Convert images to rows of grey levels or binary pixels, and columns of weights to images.

Dimensions: B batch, N images or filters, P pixels (784).
"""

import torch
from torch import Tensor

from ch03_autoencoder_rbm.boltzmann.gibbs import sample

BINARY_SEED = 0
"""Random seed of the binary validation and test images, the same for all runs."""


def intensities(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) grey levels in [0, 1]"""
    return images.flatten(1).float().div_(255)


def binary(images: Tensor, how: str, generator: torch.Generator | None = None) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) binary pixels: sampled ("stochastic") or 1 if above 0.5 ("threshold")"""
    return sample(intensities(images), generator) if how == "stochastic" else (images.flatten(1) > 127).float()


def fixed_binary(images: Tensor, how: str, device: torch.device) -> Tensor:
    """(N, 1, 28, 28) uint8 on the CPU -> (N, P) binary pixels, the same in every run and on every device"""
    return binary(images, how, torch.Generator().manual_seed(BINARY_SEED)).to(device)


def as_filters(weights: Tensor) -> Tensor:
    """(P, N) weights -> (N, 1, 28, 28) images in [0, 1], each scaled by its largest absolute weight; 0.5 is weight 0"""
    strongest = weights.abs().amax(0).clamp(min=1e-12)
    return (0.5 + (weights / strongest).T / 2).view(-1, 1, 28, 28)
