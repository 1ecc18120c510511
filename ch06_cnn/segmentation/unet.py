"""U-Net (Ronneberger, Fischer & Brox 2015).

The contracting path halves the resolution and doubles the channels at each level. The expanding path doubles the
resolution by transposed convolutions and concatenates the map of the same level of the contracting path.

Dimensions: B batch, H, W height and width of the image, C channels of the first level, L levels below the first, K
classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.blocks import convolution
from ch06_cnn.segmentation.fcn import scaled
from ch06_cnn.segmentation.transposed import LAYERS, Kind


def two_convolutions(channels: int, filters: int) -> nn.Sequential:
    """Return two 3x3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(convolution(channels, filters), convolution(filters, filters))


class UNet(nn.Module):
    """A network with L poolings and C, 2 C, 4 C ... channels."""

    def __init__(self, classes: int, *, width: int, depth: int, kind: Kind = "torch") -> None:
        super().__init__()
        channels = [width << level for level in range(depth + 1)]
        self.stride = 1 << depth
        """Height and width of the images must be multiples of this number."""
        self.contract = nn.ModuleList(
            two_convolutions(before, after) for before, after in zip([3, *channels], channels, strict=False)
        )
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))  # from the lowest level upwards
        self.upsample = nn.ModuleList(LAYERS[kind](below, above, kernel_size=2, stride=2) for below, above in pairs)
        self.expand = nn.ModuleList(two_convolutions(2 * above, above) for _, above in pairs)
        self.classify = nn.Conv2d(width, classes, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # normally distributed, with a variance of 2 / inputs
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels, 0 ... 255 -> (B, K, H, W) logits; H and W are multiples of `stride`"""
        x, maps = self.contract[0](scaled(images)), []
        for layer in list(self.contract)[1:]:
            maps.append(x)
            x = layer(F.max_pool2d(x, 2))
        for upsample, expand in zip(self.upsample, self.expand, strict=True):
            x = expand(torch.cat([maps.pop(), upsample(x)], dim=1))
        return self.classify(x)
