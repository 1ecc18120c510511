"""GoogLeNet (Szegedy et al. 2015) for 32x32 pixels: convolutions of several sizes in parallel.

The nine inception modules are those of the paper (table 1), with batch normalisation. The stem, which reduces 224x224
pixels to 28x28, is one convolution and one pooling layer here. There are no auxiliary classifiers.
"""

import torch
from torch import Tensor, nn


def unit(channels: int, width: int, kernel: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; height and width do not change."""
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


class Inception(nn.Module):
    """1x1, 3x3, 5x5 convolutions and max pooling in parallel; 1x1 convolutions reduce the cost of the larger ones."""

    def __init__(self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                unit(channels, one, 1),
                nn.Sequential(unit(channels, three[0], 1), unit(three[0], three[1], 3)),
                nn.Sequential(unit(channels, five[0], 1), unit(five[0], five[1], 5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), unit(channels, pool, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, sum of the branches' channels, H, W)"""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class GoogLeNet(nn.Module):
    """Nine inception modules at 16x16, 8x8 and 4x4 pixels."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            unit(3, 192, 3),
            nn.MaxPool2d(2),
            Inception(192, 64, (96, 128), (16, 32), 32),
            Inception(256, 128, (128, 192), (32, 96), 64),
            nn.MaxPool2d(2),
            Inception(480, 192, (96, 208), (16, 48), 64),
            Inception(512, 160, (112, 224), (24, 64), 64),
            Inception(512, 128, (128, 256), (24, 64), 64),
            Inception(512, 112, (144, 288), (32, 64), 64),
            Inception(528, 256, (160, 320), (32, 128), 128),
            nn.MaxPool2d(2),
            Inception(832, 256, (160, 320), (32, 128), 128),
            Inception(832, 384, (192, 384), (48, 128), 128),
        )
        self.classifier = nn.Linear(1024, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels).mean((2, 3)))
