"""A feed-forward network that gives pictures one style, with instance normalisation by hand (Johnson et al. 2016).

Dimensions: B pictures, C channels, H, W height and width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4
"""Height and width of a picture must be multiples of this."""
EPSILON = 1e-5
"""Added to the variance."""


class InstanceNorm(nn.Module):
    """Normalise each channel of each picture by its own mean and variance, then scale and shift (Ulyanov et al. 2016).

    Unlike batch normalisation it removes the contrast of each picture, and works the same in training and evaluation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape"""
        mean = x.mean((2, 3), keepdim=True)
        variance = (x - mean).square().mean((2, 3), keepdim=True)
        return self.gamma * (x - mean) / (variance + EPSILON).sqrt() + self.beta


class Unit(nn.Module):
    """Reflection padding, convolution, instance normalisation, and ReLU unless `activation` is false."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, *, activation: bool = True) -> None:
        super().__init__()
        self.padding = 4 * (kernel // 2,)
        self.convolution = nn.Conv2d(channels, width, kernel, stride)
        self.norm = InstanceNorm(width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H / stride, W / stride)"""
        x = self.norm(self.convolution(F.pad(x, self.padding, mode="reflect")))
        return x.relu() if self.activation else x


class Residual(nn.Module):
    """x + F(x) with two convolutions, without an activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(Unit(channels, channels, 3), Unit(channels, channels, 3, activation=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape"""
        return x + self.residual(x)


class Upsample(nn.Module):
    """Repeat each position twice in both directions; a convolution after it makes no checkerboard patterns.

    A transposed convolution does, if its kernel is not a multiple of its stride (Odena et al. 2016).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2 H, 2 W)"""
        return F.interpolate(x, scale_factor=2, mode="nearest")


class StyleNetwork(nn.Module):
    """Convolutions to a quarter of the size, residual blocks, and back by upsampling and convolutions.

    The output is the sigmoid of the normalised picture plus this correction. The normalisation removes brightness and
    contrast of the picture, and its scale and shift learn those of the style.
    """

    def __init__(self, width: int = 16, blocks: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Unit(3, width, 9),
            Unit(width, 2 * width, 3, 2),
            Unit(2 * width, 4 * width, 3, 2),
            *(Residual(4 * width) for _ in range(blocks)),
            Upsample(),
            Unit(4 * width, 2 * width, 3),
            Upsample(),
            Unit(2 * width, width, 3),
        )
        self.last = nn.Conv2d(width, 3, 9)
        nn.init.normal_(self.last.weight, std=0.01)
        self.picture = InstanceNorm(3)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, H, W) in (0, 1); H and W are multiples of 4, at least 8"""
        correction = self.last(F.pad(self.layers(images), 4 * (4,), mode="reflect"))
        return torch.sigmoid(self.picture(images) + correction)


@torch.inference_mode()
def stylise(network: StyleNetwork, images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the same shape; sides that are not multiples of 4 are padded by repeating the border"""
    rows, columns = (-size % STRIDE for size in images.shape[2:])
    padded = F.pad(images, (0, columns, 0, rows), mode="replicate")
    return network(padded)[:, :, : images.shape[2], : images.shape[3]]
