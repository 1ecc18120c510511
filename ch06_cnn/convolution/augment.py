"""Flip, shift and cut out: each picture of a batch gets its own, by one gather.

A flipped, shifted picture holds the same pixels at other places. So one tensor of indices says where each pixel of each
new picture comes from, and a single gather fetches them all: no Python per picture, no copy with a border around it.

Dimensions: B batch, C channels, H height and width.
"""

import torch
from torch import Tensor

GREY = 128
"""What a cut-out square is filled with: the middle of the range of a byte."""


def reflect(places: Tensor, size: int) -> Tensor:
    """Mirror places that lie outside of 0 ... size - 1 back inside, as if the picture went on behind a mirror."""
    return (size - 1 - (size - 1 - places).abs()).abs()


def sources(flips: Tensor, offsets: Tensor, size: int) -> Tensor:
    """(B,) whether to flip, (B, 2) first row and column -> (B, H * H) which of the H * H old pixels each new one is

    Row i of the new picture is row `dy + i` of the old one, column j is column `dx + j`, counted from the right in a
    flipped one.
    """
    axis = torch.arange(size, device=offsets.device)
    rows, columns = reflect(offsets.unsqueeze(2) + axis, size).unbind(1)
    columns = torch.where(flips[:, None], size - 1 - columns, columns)
    return (rows[:, :, None] * size + columns[:, None, :]).flatten(1)


def squares(count: int, size: int, side: int, device: torch.device) -> Tensor:
    """Draw (B, 1, H, H) masks that are true in one square each, whose middle lies anywhere in the picture."""
    middles = torch.randint(size, (count, 2, 1), device=device)
    distance = torch.arange(size, device=device) - middles + side // 2  # (B, 2, H): 0 ... side - 1 inside
    inside = (distance >= 0) & (distance < side)
    return (inside[:, 0, :, None] & inside[:, 1, None, :]).unsqueeze(1)


def coin(count: int, device: torch.device) -> Tensor:
    """Toss (B,) fair coins: flip or not."""
    return torch.rand(count, device=device) < 0.5


def augment(images: Tensor, flips: Tensor, *, shift: int, cutout: int = 0) -> Tensor:
    """(B, C, H, H) uint8, (B,) whether to flip -> (B, C, H, H) uint8, shifted at random by up to `shift` pixels

    With a cut-out, a random square of that size becomes grey (DeVries & Taylor 2017). The random numbers come from the
    generator of the images' device, so nothing is copied from the host.
    """
    count, channels, size, _ = images.shape
    offsets = torch.randint(-shift, shift + 1, (count, 2), device=images.device)
    index = sources(flips, offsets, size)
    new = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1)).view_as(images)
    if cutout:
        new.masked_fill_(squares(count, size, cutout, images.device), GREY)
    return new
