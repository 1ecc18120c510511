"""Network in Network (Lin et al. 2014): each convolution is followed by two 1x1 convolutions; no linear layers.

A 1x1 convolution is a linear layer applied at each pixel. The last one has one feature map per class, and the logit of
a class is the mean of its map. Unlike in the paper, there is batch normalisation, and one more 1x1 convolution before
the last.
"""

from torch import Tensor, nn


def nin_block(channels: int, widths: tuple[int, int, int], kernel: int) -> nn.Sequential:
    """One convolution of the given kernel size and two 1x1 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for width, size in zip(widths, (kernel, 1, 1), strict=True):
        layers += [nn.Conv2d(channels, width, size, padding=size // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


class NiN(nn.Module):
    """Three blocks of one larger and two 1x1 convolutions, and global average pooling."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nin_block(3, (192, 160, 96), kernel=5),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Dropout(0.5),
            nin_block(96, (192, 192, 192), kernel=5),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Dropout(0.5),
            nin_block(192, (192, 192, 192), kernel=3),
        )
        self.maps = nn.Conv2d(192, classes, kernel_size=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.maps(self.features(pixels)).mean((2, 3))
