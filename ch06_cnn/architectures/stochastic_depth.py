"""ResNet-56 with stochastic depth (Huang et al. 2016) for 32x32 pixels: training drops whole blocks at random.

Block l of L survives a training step with probability p_l = 1 - (l / L) (1 - p_L), which decreases linearly with the
depth; the same blocks are dropped for all images of a batch. A dropped block is only its shortcut, and its residual is
not computed: with p_L = 1/2, (3 L - 1) / 4 blocks remain on average. In evaluation mode each residual is multiplied by
p_l, its expected share.
"""

import torch
from torch import Tensor, nn

from ch06_cnn.architectures import resnet


class Block(resnet.Block):
    """y = ReLU(shortcut(x) + b F(x)), b = 1 with the survival probability, else 0; in evaluation mode b = p_l."""

    def __init__(self, channels: int, width: int, stride: int, survival: float) -> None:
        super().__init__(channels, width, stride)
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H / stride, W / stride)"""
        if not self.training:
            return (self.shortcut(x) + self.survival * self.residual(x)).relu()
        if float(torch.rand(())) < self.survival:
            return (self.shortcut(x) + self.residual(x)).relu()
        return self.shortcut(x).relu()


class StochasticDepthResNet(nn.Module):
    """3 n blocks: n = 9 blocks of 16 channels at 32x32 pixels, 32 at 16x16 and 64 at 8x8; 6 n + 2 layers."""

    def __init__(self, classes: int = 10, blocks: int = 9, survival: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        channels, number, total = 16, 0, 3 * blocks
        for width, stride in ((16, 1), (32, 2), (64, 2)):
            for position in range(blocks):
                number += 1
                probability = 1 - number / total * (1 - survival)
                layers.append(Block(channels, width, stride if position == 0 else 1, probability))
                channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels).mean((2, 3)))
