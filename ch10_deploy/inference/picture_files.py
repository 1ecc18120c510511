"""Decode PNG and JPEG files of any proportions to RGB pictures, for the networks that take whole pictures.

Dimensions: H rows, W columns.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ch10_deploy.inference.image_decoding import READABLE, SIGNATURE, remove_metadata
from ch10_deploy.server.refusal import Refusal

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**21
"""Maximum number of pixels of a picture: 1920 x 1080 is allowed, and takes 6 MB when decoded."""

MAX_OWN_PIXELS = 2**18
"""The same for networks that compute maps of the size of the picture, which take some hundred bytes per pixel: 512 x
512."""

JPEG_START, SCAN = b"\xff\xd8\xff", b"\xff\xda"
"""Start of a JPEG file, and the marker at the start of each scan."""

MAX_SCANS = 64
"""Maximum number of scans of a progressive JPEG file. Each scan is decoded over the whole picture, so a small file of
many scans would take long; usual files have about ten."""


@dataclass(frozen=True)
class SizeLimit:
    """Maximum size of a picture."""

    pixels: int = MAX_PIXELS
    """Maximum number of pixels."""
    unit: int = 1
    """Number to whose multiples the network extends both sides; the pixels that this adds are counted."""

    def check(self, width: int, height: int) -> None:
        """Raise Refusal if a picture is too large."""
        columns, rows = (-(-side // self.unit) * self.unit for side in (width, height))
        if columns * rows > self.pixels:
            sides = f", its sides rounded up to multiples of {self.unit}" if self.unit > 1 else ""
            reason = f"a picture may have at most {self.pixels:,} pixels{sides}, got {width:,} x {height:,}"
            raise Refusal(f"{reason}: reduce its size", field="file")


def from_file(data: bytes, limit: SizeLimit | None = None) -> "Image":
    """Bytes of a PNG or JPEG file -> an RGB picture, upright as the EXIF orientation of a JPEG file says

    The size in the header is checked before any pixel is decompressed, so a decompression bomb is refused without cost.
    Raises Refusal for an invalid file.
    """
    from PIL import ImageOps
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    if data.startswith(SIGNATURE):
        kind, reader, data = "PNG", PngImageFile, remove_metadata(data)
    elif data.startswith(JPEG_START):
        kind, reader = "JPEG", JpegImageFile
        if (scans := data.count(SCAN)) > MAX_SCANS:  # also counts those of thumbnails
            raise Refusal(f"a JPEG file may have at most {MAX_SCANS} scans, got {scans:,}", field="file")
    else:
        raise Refusal("must be a PNG or JPEG file", field="file")
    try:
        with reader(io.BytesIO(data)) as image:  # not Image.open, which warns about large pictures
            (limit or SizeLimit()).check(*image.size)
            if image.mode not in READABLE:
                raise Refusal(f"must be grey or RGB with 8 bits per channel, got mode {image.mode}", field="file")
            return ImageOps.exif_transpose(image).convert("RGB")
    except Refusal:
        raise
    except Exception as error:  # Pillow raises many types of exceptions for a broken file
        raise Refusal(f"not a readable {kind} file ({type(error).__name__})", field="file") from error


def resized(image: "Image", height: int, width: int) -> np.ndarray:
    """Picture -> (H, W, 3) uint8 of this size, whatever its proportions; chapter 6's `to_tensor`, without torch"""
    from PIL.Image import Resampling

    return np.asarray(image if image.size == (width, height) else image.resize((width, height), Resampling.BILINEAR))
