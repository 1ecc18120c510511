"""The detector: a backbone, a feature pyramid, and a head.

Dimensions: B batch, H, W height and width of the image, C channels of a map, F channels of the pyramid, A anchors or
cells, O outputs for each of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.architectures.efficientnet_lite import CHANNELS, MIDDLE, SPREAD, EfficientNetLite
from ch06_cnn.blocks import Residual, convolution
from ch06_cnn.detection.ssd import SSD
from ch06_cnn.detection.yolo import YOLO


class SmallBackbone(nn.Module):
    """A small residual network, trained from scratch, with feature maps of strides 4 and 8."""

    strides = (4, 8)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = (2 * width, 4 * width)
        self.fine = nn.Sequential(
            convolution(3, width, stride=2), convolution(width, 2 * width, stride=2), Residual(2 * width)
        )
        self.coarse = nn.Sequential(convolution(2 * width, 4 * width, stride=2), Residual(4 * width))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) pixels -> (B, C, H / 4, W / 4) and (B, C, H / 8, W / 8)"""
        fine = self.fine(pixels)
        return [fine, self.coarse(fine)]


class LiteBackbone(nn.Module):
    """The lower layers of EfficientNet-Lite0 (`architectures/efficientnet_lite.py`): maps of strides 8 and 16."""

    strides = (8, 16)
    channels = (CHANNELS[8], CHANNELS[16])

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.fine, self.coarse = network.layers[:4], network.layers[4:6]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) pixels -> (B, C, H / 8, W / 8) and (B, C, H / 16, W / 16)"""
        fine = self.fine(pixels)
        return [fine, self.coarse(fine)]


class FeaturePyramid(nn.Module):
    """Bring two maps to the same number of channels and add the coarse one to the fine one (Lin et al. 2017).

    Coarse features describe a larger part of the image; the fine map has the resolution for small objects.
    """

    def __init__(self, channels: Sequence[int], filters: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, filters, kernel_size=1) for count in channels)
        self.smooth = nn.ModuleList(convolution(filters, filters) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Two maps (B, C, h, w) -> two maps (B, F, h, w)"""
        fine, coarse = (layer(x) for layer, x in zip(self.lateral, maps, strict=True))
        fine = fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return [layer(x) for layer, x in zip(self.smooth, (fine, coarse), strict=True)]


class Detector(nn.Module):
    """A backbone, a feature pyramid, and the head that turns features into boxes and classes."""

    def __init__(self, backbone: SmallBackbone | LiteBackbone, filters: int, head: SSD | YOLO) -> None:
        super().__init__()
        self.backbone, self.pyramid, self.head = backbone, FeaturePyramid(backbone.channels, filters), head
        self.frozen = False

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels, 0 ... 255 -> (B, A, O) outputs of the head"""
        scaled = ((pixels.float() - MIDDLE) / SPREAD).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.backbone(scaled)
        return self.head(self.pyramid(maps))

    def train(self, mode: bool = True) -> "Detector":
        """Set the mode; batch normalisation of a pre-trained backbone always uses its running statistics."""
        super().train(mode)
        if isinstance(self.backbone, LiteBackbone):
            self.backbone.eval()
        return self

    def freeze(self, frozen: bool) -> None:
        """Keep the weights of the backbone, or train them."""
        self.frozen = frozen
        self.backbone.requires_grad_(not frozen)
