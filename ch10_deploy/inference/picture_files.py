"""Decode PNG and JPEG files of any proportions to RGB pictures, for the networks that take whole pictures.

Dimensions: H rows, W columns.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

from ch10_deploy.inference.image_decoding import READABLE, SIGNATURE, remove_metadata
from ch10_deploy.server.refusal import Refusal

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**21
"""Maximum number of pixels of a picture: 1920 x 1080 is allowed, and takes 6 MB when decoded."""

JPEG_START, SCAN = b"\xff\xd8\xff", b"\xff\xda"
"""Start of a JPEG file, and the marker at the start of each scan."""

MAX_SCANS = 64
"""Maximum number of scans of a progressive JPEG file. Each scan is decoded over the whole picture, so that a small file
of many scans would take minutes; cameras and programs write about ten."""


def from_file(data: bytes) -> "Image":
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
            width, height = image.size
            if width * height > MAX_PIXELS:
                reason = (
                    f"a picture may have at most {MAX_PIXELS:,} pixels, got {width:,} x {height:,}: reduce its size"
                )
                raise Refusal(reason, field="file")
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
