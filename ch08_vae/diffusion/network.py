"""The U-Net that predicts the noise, with time and class embeddings.

    2x2 pixels as channels    14x14, W channels     first, down_1 ---------------------> concatenate, up_1, last
                              7x7, 2 W channels     halve, down_2 -> middle -> concatenate, up_2, narrow

Sources: Ronneberger, Fischer & Brox (2015), U-Net; Ho et al. (2020), appendix B; Dhariwal & Nichol (2021), section 4:
the time enters each block by a scale and a shift of its normalised features. To be fast on a CPU, the network works at
half the resolution of the image and normalises the features of each pixel over its channels, not over the image.

Dimensions: B batch, C channels of the image, H, W its height and width, F features, E embedding size, K classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 2
"""Edge of the squares of pixels that become the channels of the first layer."""
DIVISOR = 2 * PATCH
"""Height and width of an image must be multiples of this."""
LONGEST = 10_000.0
"""Longest wavelength of the time embedding, divided by 2 pi."""


def time_embedding(t: Tensor, size: int) -> Tensor:
    """(B,) times -> (B, size) sines, then cosines, of t LONGEST^(-i / n) for i = 0 ... n - 1, n = size / 2

    The positions of the transformer (Vaswani et al. 2017, section 3.5): fast and slow oscillations distinguish
    neighbouring and distant times.
    """
    count = size // 2
    frequencies = torch.exp(-math.log(LONGEST) / count * torch.arange(count, device=t.device, dtype=torch.float32))
    angles = t.float().unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ChannelNorm(nn.LayerNorm):
    """Normalise the features of each pixel over its channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> (B, F, H, W)"""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block: two 3x3 convolutions; the embedding scales and shifts the features between them.

    The second convolution and the scales start at zero, so that every block starts as its shortcut.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = ChannelNorm(inputs), ChannelNorm(outputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.scale_and_shift = nn.Linear(embedding, 2 * outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        for parameter in (*self.conv_2.parameters(), *self.scale_and_shift.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, inputs, H, W), (B, E) -> (B, outputs, H, W)"""
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.scale_and_shift(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm_2(h), 1 + scale)
        return self.conv_2(F.silu(h)) + self.shortcut(x)


class UNet(nn.Module):
    """Predict the noise of an image from the noisy image, the time and the class; class K means: no class."""

    def __init__(self, channels: int, width: int, classes: int, embedding: int = 128) -> None:
        super().__init__()
        self.classes, self.embedding = classes, embedding
        inputs, wide = channels * PATCH**2, 2 * width
        self.time = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = nn.Embedding(classes + 1, embedding)
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.down_1 = Block(width, width, embedding)
        self.halve = nn.Conv2d(width, wide, 3, stride=2, padding=1)
        self.down_2 = Block(wide, wide, embedding)
        self.middle = Block(wide, wide, embedding)
        self.up_2 = Block(2 * wide, wide, embedding)
        self.narrow = nn.Conv2d(wide, width, 1)
        self.up_1 = Block(2 * width, width, embedding)
        self.norm = ChannelNorm(width)
        self.last = nn.Conv2d(width, inputs, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, classes: Tensor) -> Tensor:
        """(B, C, H, W) x_t, (B,) times, (B,) classes from 0 to K -> (B, C, H, W) predicted noise"""
        embedding = F.silu(self.time(time_embedding(t, self.embedding)) + self.label(classes))
        fine = self.down_1(self.first(F.pixel_unshuffle(x, PATCH)), embedding)
        coarse = self.down_2(self.halve(fine), embedding)
        h = self.middle(coarse, embedding)
        h = self.up_2(torch.cat([h, coarse], dim=1), embedding)
        h = F.interpolate(self.narrow(h), scale_factor=2.0, mode="nearest")
        h = self.up_1(torch.cat([h, fine], dim=1), embedding)
        return F.pixel_shuffle(self.last(F.silu(self.norm(h))), PATCH)
