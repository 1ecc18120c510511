"""VGG-11 (Simonyan & Zisserman 2015) for 32x32 pixels: nothing but 3x3 convolutions, and one linear layer.

Two 3x3 windows see as much as one of 5x5, with fewer weights and a rectifier between. This configuration is the one
that the paper trained from random weights, and started its deeper ones from (section 3.1). Its three linear layers are
one here; batch-norm is ours.
"""

from torch import Tensor, nn

PLAN = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
"""Filters of each convolution, and where the picture is halved: the paper's configuration A."""


class VGG(nn.Module):
    """Eight convolutions; after five halvings one pixel of 512 channels is left."""

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
