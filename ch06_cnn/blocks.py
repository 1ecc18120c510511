"""Building blocks of the networks for detection and segmentation.

Dimensions: B batch, C channels, h, w height and width of a map.
"""

from torch import Tensor, nn
from torch.nn import functional as F


def convolution(channels: int, filters: int, *, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution, batch normalisation and ReLU."""
    layer = nn.Conv2d(channels, filters, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(filters), nn.ReLU())


class Residual(nn.Module):
    """Two convolutions whose result is added to their input (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(channels, channels), *convolution(channels, channels)[:2])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape"""
        return F.relu(x + self.layers(x))
