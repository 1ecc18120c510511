"""Preprocessing of images for the VAE: grey levels, or binary pixels sampled with them as probabilities.

The decoder's Bernoulli distribution assigns probabilities to zeros and ones. `dynamic` samples such pixels; training
images are sampled again in every epoch. `none` inserts grey levels into the same formula, as pytorch/examples does; the
result is then not a log-probability and cannot be compared with those of binary pixels.

Dimensions: B batch, N images, P pixels (784).
"""

from typing import Literal

import torch
from torch import Tensor

CLASSES = 10
"""Number of classes of the images."""

Binarisation = Literal["dynamic", "none"]

BINARY_SEED = 0
"""Random seed of the binary validation and test pixels, which are the same in every run."""


def flat(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) floats in [0, 1]"""
    return images.flatten(1).float().div_(255)


def sample_bernoulli(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) zeros and ones, each a one with probability pixel / 255

    A pixel is 1 if a random 16-bit number is below its grey level on the same scale. One random 64-bit number gives
    four of them; torch.bernoulli generates one number per pixel.
    """
    level = images.flatten(1).to(torch.int16).mul_(257).sub_(2**15)  # 0 -> -32768: never 1; 255 -> 32767: almost always
    bits = torch.empty(len(level), level.shape[1] // 4, dtype=torch.int64, device=level.device)
    return (bits.random_(-(2**63), None, generator=generator).view(torch.int16) < level).float()


def binarised(images: Tensor, how: Binarisation, generator: torch.Generator | None = None) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) zeros and ones (dynamic) or grey levels in [0, 1] (none)"""
    return sample_bernoulli(images, generator) if how == "dynamic" else flat(images)


def fixed(images: Tensor, how: Binarisation, device: torch.device | str = "cpu") -> Tensor:
    """(N, 1, 28, 28) uint8 on the CPU -> (N, P) binarised with a fixed seed: the same in every run, on every device"""
    return binarised(images, how, torch.Generator().manual_seed(BINARY_SEED)).to(device)
