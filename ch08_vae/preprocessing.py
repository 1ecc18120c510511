"""From bytes to what the autoencoder is asked to explain: grey levels as they are, or coins that they weigh.

The decoder's Bernoulli distribution gives probabilities to zeros and ones. `dynamic` makes them: a pixel is on with its
brightness as probability, and training images are drawn anew in every epoch. `none` puts the grey levels themselves
into the same formula, as pytorch/examples does: its value is then no log-probability of anything, and comparable with
no other.

Dimensions: B batch, N images, P pixels (784).
"""

from typing import Literal

import torch
from torch import Tensor

Binarisation = Literal["dynamic", "none"]

BINARY_SEED = 0
"""Seed of the coins for validation and test images: every run is measured on the same ones."""


def flat(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) floats in [0, 1]"""
    return images.flatten(1).float().div_(255)


def tossed(images: Tensor, dice: torch.Generator | None = None) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) zeros and ones, a one with probability pixel / 255

    A pixel is on where a random number of 16 bits is below its brightness on the same scale. One 64-bit draw makes four
    of them, where torch.bernoulli draws one a pixel.
    """
    level = images.flatten(1).to(torch.int16).mul_(257).sub_(2**15)  # -32768 is never on, 32767 all but always
    draws = torch.empty(len(level), level.shape[1] // 4, dtype=torch.int64, device=level.device)
    return (draws.random_(-(2**63), None, generator=dice).view(torch.int16) < level).float()


def binarised(images: Tensor, how: Binarisation, dice: torch.Generator | None = None) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) zeros and ones, or grey levels where there is to be no binarisation"""
    return tossed(images, dice) if how == "dynamic" else flat(images)


def fixed(images: Tensor, how: Binarisation, device: torch.device | str = "cpu") -> Tensor:
    """(N, 1, 28, 28) uint8 on the CPU -> (N, P) the same in every run and on every device"""
    return binarised(images, how, torch.Generator().manual_seed(BINARY_SEED)).to(device)
