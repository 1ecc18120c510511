"""DenseNet-BC (Huang et al. 2017) for 32x32 pixels: each layer receives the feature maps of all earlier ones.

A layer adds only a few feature maps (the growth rate), so the network is narrow and deep. Between the blocks a 1x1
convolution halves the channels.
"""

import torch
from torch import Tensor, nn


def unit(channels: int, width: int, kernel: int) -> nn.Sequential:
    """Batch normalisation, ReLU, convolution, in this order; height and width do not change."""
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), convolution)


class Layer(nn.Module):
    """Append `growth` feature maps to the input; a 1x1 convolution to 4 * growth channels is the bottleneck."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.new = nn.Sequential(unit(channels, 4 * growth, 1), unit(4 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + growth, H, W)"""
        return torch.cat([x, self.new(x)], dim=1)


class DenseNet(nn.Module):
    """Three blocks of six layers, at 32x32, 16x16 and 8x8 pixels: 40 layers deep, counted as in the paper."""

    def __init__(self, classes: int = 10, growth: int = 12, depth: int = 6) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for block in range(3):
            if block > 0:
                layers += [unit(channels, channels // 2, 1), nn.AvgPool2d(2)]
                channels //= 2
            for _ in range(depth):
                layers.append(Layer(channels, growth))
                channels += growth
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels).mean((2, 3)))
