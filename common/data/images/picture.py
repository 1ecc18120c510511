"""Read image files of any size and mode as bytes: the central square, or the whole picture.

Dimensions: N images, S side length, H, W height and width.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File name endings of pictures, in lower case."""

LIMIT = 100_000_000
"""Maximum number of pixels; larger files are rejected after their header has been read."""


def is_picture(path: Path) -> bool:
    """Return whether a file has the name of a picture; hidden files are not pictures."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_picture(path: Path, size: int) -> Tensor:
    """Read the central square of a picture as (3, S, S) uint8.

    The EXIF orientation is applied, transparent pixels become white, grey values are repeated in all three channels, 16
    bits are reduced to 8. Of an animation, the first frame is read. Raises ValueError with the reason if it cannot be
    read or has more than LIMIT pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of unusual metadata and of large pictures
        return _read(path, size)


def read_whole(path: Path, longest: int) -> Tensor:
    """Read a picture as (3, H, W) uint8, reduced so that neither side is longer than `longest` pixels.

    Smaller pictures keep their size. Modes and errors are those of `read_picture`, with the path in front.
    """

    def reduced(image: Image.Image) -> Image.Image:
        image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
        return image

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a picture file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(path, longest, reduced)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def read_pictures(paths: Sequence[Path], size: int) -> tuple[Tensor, list[int], dict[Path, str]]:
    """Read pictures as (N, 3, S, S) uint8; also return the places of the N readable ones, and why others failed."""

    def attempt(path: Path) -> Tensor | str:
        try:
            return _read(path, size)
        except ValueError as error:
            return str(error)

    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")
        results = list(pool.map(attempt, paths))
    readable = [place for place, result in enumerate(results) if isinstance(result, Tensor)]
    reasons = {path: result for path, result in zip(paths, results, strict=True) if isinstance(result, str)}
    pixels = [result for result in results if isinstance(result, Tensor)]
    return torch.stack(pixels) if pixels else torch.empty(0, 3, size, size, dtype=torch.uint8), readable, reasons


def _read(path: Path, size: int) -> Tensor:
    return _decode(path, size, lambda image: ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))


def _decode(path: Path, size: int, resize: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Decode a picture as (3, H, W) uint8; at least one of its sides need not be longer than `size`."""
    too_large = f"it has more than {LIMIT // 1_000_000} million pixels"
    try:
        with Image.open(path) as image:  # reads the header only
            if image.width * image.height > LIMIT:
                raise ValueError(too_large)
            image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
            resized = resize(_rgb(ImageOps.exif_transpose(image)))
    except Image.DecompressionBombError as error:
        raise ValueError(too_large) from error
    except Image.UnidentifiedImageError as error:
        raise ValueError("it is not a picture in a known format") from error
    except Exception as error:  # Pillow's decoders raise errors of many types for damaged files
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def _rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to 8-bit RGB."""
    if image.mode == "F":
        raise ValueError("pixels in floating point are not supported")
    if image.mode.startswith("I"):  # 16 bits, in 16 or 32; Pillow's own conversion would cut off values above 255
        grey = np.asarray(image).clip(0, 65_535) / 257
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
    return image.convert("RGB")
