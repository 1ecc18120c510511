"""VGG-11 (Simonyan & Zisserman 2015) for 32x32 pixels: 3x3 convolutions only, and one linear layer.

Two 3x3 convolutions have the receptive field of one 5x5 convolution, with fewer weights and a ReLU in between. This is
the configuration that the paper trains from random weights, to initialise the deeper ones (section 3.1). Unlike in the
paper, there is one linear layer instead of three, and batch normalisation.
"""

from torch import Tensor, nn

PLAN = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
"""Filters of each convolution, and positions of the pooling layers: configuration A of the paper."""


class VGG(nn.Module):
    """Eight convolutions; after five pooling layers, one position with 512 channels remains."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for entry in PLAN:
            if isinstance(entry, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, entry, 3, padding=1, bias=False), nn.BatchNorm2d(entry), nn.ReLU()]
            channels = entry
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels).flatten(1))
