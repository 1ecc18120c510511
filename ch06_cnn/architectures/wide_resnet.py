"""Wide ResNet WRN-16-4 (Zagoruyko & Komodakis 2016) for 32x32 pixels: fewer pre-activation blocks, more channels.

The network WRN-d-k has d layers: (d - 4) / 6 blocks of two convolutions in each of three groups, and k times the 16,
32 and 64 channels of a thin ResNet. The number of parameters grows with k^2. Dropout between the convolutions of a
block is optional, as in the paper.
"""

from torch import Tensor, nn

from ch06_cnn.architectures.preactivation import Block


class WideResNet(nn.Module):
    """Three groups of blocks, at 32x32, 16x16 and 8x8 pixels."""

    def __init__(self, classes: int = 10, depth: int = 16, widening: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        assert (depth - 4) % 6 == 0, depth
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
        channels = 16
        for width, stride in ((16 * widening, 1), (32 * widening, 2), (64 * widening, 2)):
            for number in range((depth - 4) // 6):
                layers.append(Block(channels, width, stride if number == 0 else 1, dropout))
                channels = width
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels).mean((2, 3)))
