"""ResNet-18 (He et al. 2016) for 32x32 pixels: each block learns a residual that is added to its input.

The shortcut of a block passes the gradient unchanged. The stem, which reduces 224x224 pixels to 56x56, is one 3x3
convolution here.
"""

from torch import Tensor, nn


class Block(nn.Module):
    """y = ReLU(shortcut(x) + F(x)), F two 3x3 convolutions; the shortcut is x, or a 1x1 convolution to a new shape."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H / stride, W / stride)"""
        return (self.shortcut(x) + self.residual(x)).relu()


class ResNet(nn.Module):
    """Eight blocks, two at each of 32x32, 16x16, 8x8 and 4x4 pixels."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        channels = 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [Block(channels, width, stride), Block(width, width, 1)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels).mean((2, 3)))
