"""The types of images with masks: a split, and a set with its splits; checks of files before they are decoded.

Dimensions: N images, H, W height and width.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.data.boxes.boxed import MOST_PIXELS, open_image, to_tensor
from common.data.source import DataCard

VOID = 255
"""Value of mask pixels that count neither in the loss nor in the measures."""
MOST_MEMORY = 8_000_000_000
"""Maximum number of bytes of the images and masks of a split."""


@dataclass(frozen=True)
class MaskedImages:
    """Images, each with the class of every pixel."""

    pixels: Tensor
    """(N, 3, H, W) uint8"""
    masks: Tensor
    """(N, H, W) uint8 class of each pixel, or VOID"""

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor) -> "MaskedImages":
        return MaskedImages(self.pixels[index], self.masks[index])


@dataclass(frozen=True)
class MaskSet:
    """A data set in three splits. Choose models on `valid`, which may be empty; use `test` once, at the end."""

    card: DataCard
    class_names: tuple[str, ...]
    """Names of the classes; class 0 is the background."""
    train: MaskedImages
    valid: MaskedImages
    test: MaskedImages


@dataclass(frozen=True)
class Pair:
    """The files of an image and its mask."""

    image: Path
    mask: Path


def header(path: Path) -> tuple[tuple[int, int], str]:
    """Return the size (width, height) and the mode of an image file from its header, without decoding it.

    Raises FileNotFoundError if the file does not exist, ValueError if it is not an image or too large.
    """
    from PIL import Image

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as file,
        ):
            width, height = file.size
            mode = file.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    if width * height > MOST_PIXELS:
        raise ValueError(f"{path} has {width:,} × {height:,} pixels, more than {MOST_PIXELS:,}: make it smaller")
    return (width, height), mode


def check_pairs(pairs: Sequence[Pair], size: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Check the headers of all images and masks; return the sizes (width, height).

    `size` is the (height, width) to which they will be resized, None for their own. Raises FileNotFoundError or
    ValueError, naming the file, for a missing file, a mask with another size than its image, or too large images.
    """
    sizes = []
    for pair in pairs:
        own, _ = header(pair.image)
        other, mode = header(pair.mask)
        if own != other:
            raise ValueError(
                f"{pair.mask} has {other[0]} × {other[1]} pixels, but its image {pair.image.name} has "
                f"{own[0]} × {own[1]}"
            )
        if mode not in ("P", "L", "1"):
            raise ValueError(
                f"{pair.mask} has the mode {mode}: a mask is a palette or grey image with a class per pixel"
            )
        sizes.append(own)
    memory = sum(4 * (width * height if size is None else size[0] * size[1]) for width, height in sizes)
    if memory > MOST_MEMORY:
        raise ValueError(f"{len(pairs):,} images and masks need {memory / 1e9:.1f} GB: use --limit or smaller images")
    return sizes


def read_pair(pair: Pair, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Read (3, H, W) uint8 pixels and the (H, W) uint8 mask, resized to (height, width).

    The mask is resized to the nearest pixel, so that no classes are mixed. Its values are those of the file: for a
    palette image the places in the palette, not the colours.
    """
    from PIL import Image

    height, width = size
    pixels = to_tensor(open_image(pair.image), height, width)
    try:
        with Image.open(pair.mask) as file:
            mask = file if file.size == (width, height) else file.resize((width, height), Image.Resampling.NEAREST)
            values = np.array(mask).astype(np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{pair.mask} cannot be read as an image: {error}") from error
    return pixels, torch.from_numpy(values)


def check_classes(mask: Tensor, classes: int, path: Path, rule: str) -> None:
    """Raise ValueError, naming the file, a pixel and the rule, if a mask has a class outside 0 ... K - 1."""
    wrong = ((mask >= classes) & (mask != VOID)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(f"{path} has the class {int(mask[row, column])} at row {row}, column {column}: {rule}")
