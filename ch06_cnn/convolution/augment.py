"""Random flips, shifts and erased squares for a batch of images, by one gather.

A flipped and shifted image has the same pixels in other positions. One tensor of indices gives the source of each pixel
of each new image, and a single gather copies them: no Python loop over images, no padded copy.

Dimensions: B batch, C channels, H height and width.
"""

import torch
from torch import Tensor

GREY = 128
"""Pixel value of an erased square: the middle of the range of a byte."""


def reflect(positions: Tensor, size: int) -> Tensor:
    """Reflect positions outside 0 ... size - 1 into this range (reflection padding)."""
    return (size - 1 - (size - 1 - positions).abs()).abs()


def sources(flips: Tensor, offsets: Tensor, size: int) -> Tensor:
    """(B,) flip mask, (B, 2) offsets (dy, dx) -> (B, H * H) index of the source pixel of each new pixel

    Row i of the new image is row `dy + i` of the old one, column j is column `dx + j`, counted from the right if the
    image is flipped.
    """
    axis = torch.arange(size, device=offsets.device)
    rows, columns = reflect(offsets.unsqueeze(2) + axis, size).unbind(1)
    columns = torch.where(flips[:, None], size - 1 - columns, columns)
    return (rows[:, :, None] * size + columns[:, None, :]).flatten(1)


def squares(count: int, size: int, side: int, device: torch.device) -> Tensor:
    """Sample (B, 1, H, H) masks, each true in one square centred at a random pixel and cut off at the border."""
    centres = torch.randint(size, (count, 2, 1), device=device)
    distance = torch.arange(size, device=device) - centres + side // 2  # (B, 2, H): 0 ... side - 1 inside
    inside = (distance >= 0) & (distance < side)
    return (inside[:, 0, :, None] & inside[:, 1, None, :]).unsqueeze(1)


def random_flips(count: int, device: torch.device) -> Tensor:
    """Sample (B,) booleans, true with probability 1/2."""
    return torch.rand(count, device=device) < 0.5


def augment(images: Tensor, flips: Tensor, *, shift: int, cutout: int = 0) -> Tensor:
    """(B, C, H, H) uint8, (B,) flip mask -> (B, C, H, H) uint8, shifted at random by up to `shift` pixels

    With `cutout`, a random square of that size becomes grey (DeVries & Taylor 2017). The random numbers come from the
    generator of the device of the images, so nothing is copied from the host.
    """
    count, channels, size, _ = images.shape
    offsets = torch.randint(-shift, shift + 1, (count, 2), device=images.device)
    index = sources(flips, offsets, size)
    new = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1)).view_as(images)
    if cutout:
        new.masked_fill_(squares(count, size, cutout, images.device), GREY)
    return new
