"""Pre-activation ResNet-18 (He et al. 2016b) for 32x32 pixels: batch normalisation and ReLU before each convolution.

The sum of a block is not followed by a ReLU, so the input of the last block is the first one's plus all residuals, and
the gradient reaches every block unchanged. One more batch normalisation and ReLU follow the last block.
"""

from torch import Tensor, nn


class Block(nn.Module):
    """y = shortcut(x) + F(x), F twice BN, ReLU, 3x3 convolution; the shortcut is x, or BN, ReLU, 1x1 convolution.

    The wide ResNet can have dropout before the second convolution.
    """

    def __init__(self, channels: int, width: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.shortcut = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H / stride, W / stride)"""
        activated = self.activation(x)
        return (x if self.shortcut is None else self.shortcut(activated)) + self.residual(activated)


class PreActivationResNet(nn.Module):
    """Eight blocks, two at each of 32x32, 16x16, 8x8 and 4x4 pixels, as in `resnet.py`."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False)]
        channels = 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [Block(channels, width, stride), Block(width, width, 1)]
            channels = width
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels).mean((2, 3)))
