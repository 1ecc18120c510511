"""Images as rows of pixels: grey levels in [0, 1] or binary.

Dimensions: B batch, N images, P pixels (784).
"""

import torch
from torch import Tensor

from ch03_autoencoder_rbm.boltzmann.gibbs import sample

BINARY_SEED = 0
"""Random seed of the binary validation and test images: every run is evaluated on the same ones."""


def brightness(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) grey levels in [0, 1]"""
    return images.flatten(1).float().div_(255)


def binary(images: Tensor, how: str, generator: torch.Generator | None = None) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) binary pixels: sampled ("stochastic") or 1 above one half ("threshold")"""
    return sample(brightness(images), generator) if how == "stochastic" else (images.flatten(1) > 127).float()


def fixed_binary(images: Tensor, how: str, device: torch.device) -> Tensor:
    """(N, 1, 28, 28) uint8 on the CPU -> (N, P) binary pixels, the same in every run and on every device"""
    return binary(images, how, torch.Generator().manual_seed(BINARY_SEED)).to(device)
