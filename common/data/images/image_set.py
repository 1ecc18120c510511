"""Types of image data: a split, and a set of three splits.

Dimensions: N images, C channels, H height, W width.
"""

from dataclasses import dataclass

from torch import Tensor

from common.data.source import DataCard


@dataclass(frozen=True)
class Split:
    """Images and their classes."""

    pixels: Tensor
    """(N, C, H, W) uint8"""
    labels: Tensor
    """(N,) int64"""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "Split":
        return Split(self.pixels[index], self.labels[index])


@dataclass(frozen=True)
class ImageSet:
    """A data set in three splits. Choose models on `valid`; use `test` once, at the end."""

    card: DataCard
    class_names: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
