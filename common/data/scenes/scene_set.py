"""The types of generated scenes: scenes with boxes and masks, and a set with its splits.

Dimensions: N scenes, S image size, M objects of a scene at most.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from common.data.source import DataCard

NO_BOX = -1
"""Label of a place without an object, or of an object that is hidden too far to have a box."""


@dataclass(frozen=True)
class Scenes:
    """Scenes of up to M objects, drawn in the order of their places: later ones hide earlier ones.

    Place m of a scene is row m of its boxes and the value m + 1 in its instance mask.
    """

    pixels: Tensor
    """(N, 3, S, S) uint8"""
    boxes: Tensor
    """(N, M, 4) float32 left, top, right and bottom edge of the visible part, in pixels; zeros without a box"""
    labels: Tensor
    """(N, M) int64 class of each box; NO_BOX at places without one"""
    class_masks: Tensor
    """(N, S, S) uint8 class of the object visible at each pixel, plus one; 0 is the ground"""
    instance_masks: Tensor
    """(N, S, S) uint8 place of the object visible at each pixel, plus one; 0 is the ground"""
    shapes: Tensor
    """(N, M) int64 class of each object, also of those without a box; NO_BOX at places without an object"""
    colours: Tensor
    """(N, M) int64 place of each object's colour in COLOURS"""
    centres: Tensor
    """(N, M, 2) float32 x and y of each object's centre, in pixels"""
    radii: Tensor
    """(N, M) float32 radius of each object, in pixels"""
    visible: Tensor
    """(N, M) float32 share of the pixels of each object that is visible"""

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor) -> "Scenes":
        return Scenes(*(getattr(self, each.name)[index] for each in fields(self)))

    @classmethod
    def join(cls, parts: list["Scenes"]) -> "Scenes":
        """Concatenate scenes."""
        return cls(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(cls)))


@dataclass(frozen=True)
class SceneSet:
    """A data set in three splits. Choose models on `valid`; use `test` once, at the end."""

    card: DataCard
    class_names: tuple[str, ...]
    train: Scenes
    valid: Scenes
    test: Scenes
