"""The types of images with boxes: a split, and a set with its splits; an image file as a tensor.

Dimensions: N images, H, W height and width, M boxes of an image at most.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from common.data.source import DataCard

if TYPE_CHECKING:
    from PIL.Image import Image

NO_BOX = -1
"""Label of a place without a box."""
MOST_PIXELS = 50_000_000
"""Maximum number of pixels of an image file; larger ones are rejected before they are decoded."""


@dataclass(frozen=True)
class BoxedImages:
    """Images, each with up to M boxes."""

    pixels: Tensor
    """(N, 3, H, W) uint8"""
    boxes: Tensor
    """(N, M, 4) float32 left, top, right and bottom edge, in pixels"""
    labels: Tensor
    """(N, M) int64 class of each box; NO_BOX at places without one"""
    difficult: Tensor
    """(N, M) boolean: boxes that count neither as found nor as missed"""

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor) -> "BoxedImages":
        return BoxedImages(self.pixels[index], self.boxes[index], self.labels[index], self.difficult[index])


@dataclass(frozen=True)
class BoxSet:
    """A data set in three splits. Choose models on `valid`; use `test` once, at the end."""

    card: DataCard
    class_names: tuple[str, ...]
    train: BoxedImages
    valid: BoxedImages
    test: BoxedImages


def join(one: BoxedImages, other: BoxedImages) -> BoxedImages:
    """Concatenate two splits; the one with fewer boxes per image is padded."""
    most = max(one.labels.shape[1], other.labels.shape[1])
    parts = []
    for split in (one, other):
        more = most - split.labels.shape[1]
        pad = torch.nn.functional.pad
        parts.append(
            (
                split.pixels,
                pad(split.boxes, (0, 0, 0, more)),
                pad(split.labels, (0, more), value=NO_BOX),
                pad(split.difficult, (0, more)),
            )
        )
    return BoxedImages(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


def open_image(path: Path, size: tuple[int, int] | None = None, *, upright: bool = False) -> "Image":
    """Decode an image file as RGB, with `upright` turned as its EXIF orientation says.

    Its size is read from its header and checked first: it may not exceed MOST_PIXELS and, if (width, height) is given,
    must equal it. Raises FileNotFoundError if the file does not exist, ValueError if it is not a valid image.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give an image file")
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as file,
        ):
            width, height = file.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{width:,} × {height:,} pixels are more than {MOST_PIXELS:,}: make it smaller")
            if size is not None and (width, height) != size:
                raise ValueError(f"it has {width} × {height} pixels, its annotation says {size[0]} × {size[1]}")
            return (ImageOps.exif_transpose(file) if upright else file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def to_tensor(image: "Image", height: int, width: int) -> Tensor:
    """Resize an image to (3, H, W) uint8, whatever its proportions."""
    from PIL import Image

    resized = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
