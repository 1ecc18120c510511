"""The types of captioned images: a split, and a set with its splits; an image file as a tensor.

Dimensions: N images, H = W height and width.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.data.captions.scenes import Scene
from common.data.source import DataCard


@dataclass(frozen=True)
class CaptionedImages:
    """Images, each with one or more captions."""

    pixels: Tensor
    """(N, 3, H, W) uint8"""
    captions: list[list[str]]
    """Captions of each image, words in lower case separated by spaces."""
    scenes: list[Scene]
    """The scene that each image shows; empty for photographs."""

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice) -> "CaptionedImages":
        return CaptionedImages(self.pixels[part], self.captions[part], self.scenes[part])


@dataclass(frozen=True)
class CaptionSet:
    """A data set with its splits. Choose on `valid`; read `test` and `held_out` once, last."""

    card: DataCard
    train: CaptionedImages
    valid: CaptionedImages
    test: CaptionedImages
    held_out: CaptionedImages | None
    """Scenes with combinations of colour and shape that no other split has; None for photographs."""


def read_image(path: Path, size: int) -> Tensor:
    """Read an image file as (3, size, size) uint8: its central square, resized.

    Raises FileNotFoundError if the file does not exist, ValueError if it is not an image.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give an image file")
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning), Image.open(path) as file:
            image = ImageOps.fit(file.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
