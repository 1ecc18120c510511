"""The fully convolutional network (Long, Shelhamer & Darrell 2015).

A 1x1 convolution turns the coarsest map of a backbone into scores of the classes. They are upsampled by two and added
to the scores of the next finer map, up to two times; a last upsampling gives the scores of every pixel.

Dimensions: B batch, H, W height and width of the image, C channels of a map, K classes.
"""

import torch
from torch import Tensor, nn

from ch06_cnn.architectures.efficientnet_lite import CHANNELS, MIDDLE, SPREAD, EfficientNetLite
from ch06_cnn.blocks import Residual, convolution
from ch06_cnn.segmentation.transposed import Kind, Upsampling


def scaled(images: Tensor) -> Tensor:
    """(B, 3, H, W) pixels, 0 ... 255 -> floats around 0"""
    return ((images.float() - MIDDLE) / SPREAD).contiguous(memory_format=torch.channels_last)


class SmallBackbone(nn.Module):
    """A small residual network, trained from scratch, with maps of strides 2, 4 and 8."""

    strides = (2, 4, 8)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(convolution(3, width, stride=2), Residual(width)),
                nn.Sequential(convolution(width, 2 * width, stride=2), Residual(2 * width)),
                nn.Sequential(convolution(2 * width, 4 * width, stride=2), Residual(4 * width), Residual(4 * width)),
            ]
        )


class LiteBackbone(nn.Module):
    """EfficientNet-Lite0 without its classifier (`architectures/`): maps of strides 8, 16 and 32."""

    strides = (8, 16, 32)
    channels = (CHANNELS[8], CHANNELS[16], CHANNELS[32])

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.stages = nn.ModuleList([network.layers[:4], network.layers[4:6], network.layers[6:8]])


class FCN(nn.Module):
    """Scores of `skips` + 1 maps, upsampled and added.

    With maps of strides 8, 16 and 32, 0, 1 and 2 skips are FCN-32s, FCN-16s and FCN-8s.
    """

    def __init__(
        self, backbone: SmallBackbone | LiteBackbone, classes: int, *, skips: int, kind: Kind = "torch"
    ) -> None:
        super().__init__()
        self.backbone, self.skips = backbone, skips
        self.stride = backbone.strides[-1]
        """Height and width of the images must be multiples of this number."""
        coarse_to_fine = backbone.channels[::-1][: skips + 1]
        scores = [nn.Conv2d(channels, classes, kernel_size=1) for channels in coarse_to_fine]
        for layer in scores[1:]:  # training starts as without skips
            nn.init.zeros_(layer.weight)
        self.scores = nn.ModuleList(scores)
        self.upsample = nn.ModuleList(Upsampling(classes, 2, kind) for _ in range(skips))
        self.final = Upsampling(classes, backbone.strides[::-1][skips], kind)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels, 0 ... 255 -> (B, K, H, W) logits; H and W are multiples of `stride`"""
        maps, x = [], scaled(images)
        for stage in self.backbone.stages:
            x = stage(x)
            maps.append(x)
        y = self.scores[0](x)
        for level in range(self.skips):
            y = self.upsample[level](y) + self.scores[level + 1](maps[-2 - level])
        return self.final(y)

    def train(self, mode: bool = True) -> "FCN":
        """Set the mode; batch normalisation of a pre-trained backbone always uses its running statistics."""
        super().train(mode)
        if isinstance(self.backbone, LiteBackbone):
            self.backbone.eval()
        return self
