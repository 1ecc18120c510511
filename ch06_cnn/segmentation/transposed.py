"""Transposed convolution by hand, and its weights for bilinear interpolation.

Dimensions: B batch, C channels, O channels out, h, w height and width of the input, K kernel size, f factor of
upsampling.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.convolution.layers import col2im

Kind = Literal["torch", "by-hand"]


def transposed_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """(B, C, h, w), (C, O, K, K) -> (B, O, stride (h - 1) - 2 padding + K, ...), from the definition

    Each input pixel adds the kernel, multiplied by its value, to a window of the output. Windows of adjacent pixels are
    `stride` apart. This is the gradient of a convolution with respect to its input (`layers.conv2d`).
    """
    _, _, height, width = x.shape
    kernel = weight.shape[2]
    columns = torch.einsum("bchw,coij->boijhw", x, weight)
    size = stride * (height - 1) + kernel, stride * (width - 1) + kernel
    y = col2im(columns, size, stride)[:, :, padding : size[0] - padding, padding : size[1] - padding]
    return y if bias is None else y + bias[:, None, None]


class TransposedConvolution(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with the function of this module: same parameters, same initial values."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(B, C, h, w) -> (B, O, H, W)"""
        stride, padding = int(self.stride[0]), int(self.padding[0])
        return transposed_convolution(x, self.weight, self.bias, stride, padding)


LAYERS: dict[Kind, type[nn.ConvTranspose2d]] = {"torch": nn.ConvTranspose2d, "by-hand": TransposedConvolution}


def bilinear_kernel(factor: int) -> Tensor:
    """(K, K) float64 kernel of bilinear interpolation by a factor f, with K = 2 f - (f mod 2)

    k(i, j) = (1 - |i - c| / f) (1 - |j - c| / f), c = (K - 1) / 2: the weight of an input pixel falls linearly with the
    distance, from 1 to 0 at the next pixel.
    """
    size = 2 * factor - factor % 2
    axis = 1 - (torch.arange(size, dtype=torch.float64) - (size - 1) / 2).abs() / factor
    return axis[:, None] * axis


class Upsampling(nn.Module):
    """A transposed convolution that enlarges maps by a factor; before training it is bilinear interpolation.

    The map is first extended by a copy of its border, as bilinear interpolation does. With zeros outside (Long et al.
    2015), scores would decrease towards the border.
    """

    def __init__(self, channels: int, factor: int, kind: Kind = "torch") -> None:
        super().__init__()
        kernel = bilinear_kernel(factor)
        padding = factor + factor // 2  # of the output: the copied border, and half a kernel
        self.layer = LAYERS[kind](channels, channels, len(kernel), stride=factor, padding=padding, bias=False)
        with torch.no_grad():
            self.layer.weight.zero_()
            for channel in range(channels):
                self.layer.weight[channel, channel] = kernel

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, f h, f w)"""
        return self.layer(F.pad(x, (1, 1, 1, 1), mode="replicate"))
