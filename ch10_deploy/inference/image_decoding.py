"""Decode the pixels of a request from nested JSON lists or a PNG file; errors name the invalid field.

Dimensions: H rows, W columns, C channels.
"""

import io
import json
import struct
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from ch10_deploy.server.refusal import Refusal

SHAPES: dict[int, tuple[int, ...]] = {28: (28, 28), 32: (32, 32, 3)}
"""Shape of an image by its number of rows."""

MODES = {28: "L", 32: "RGB"}
"""Pillow's mode of an image by its number of rows."""

READABLE = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Pillow's modes with at most 8 bits per channel, which can be converted to L and RGB."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"

CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks of a PNG file that define its pixels."""

RULE = "a pixel is a whole number from 0 to 255, written without a decimal point"


def from_lists(value: Any, where: str = "pixels") -> np.ndarray:
    """Nested lists of JSON -> (28, 28) or (32, 32, 3) uint8

    Valid images take a fast path, in which `bytes` checks the range of all numbers. Raises Refusal, naming the field,
    for invalid ones.
    """
    try:
        shape = SHAPES[len(value)]
        flat = value
        for length in shape[1:]:
            if set(map(len, flat)) != {length}:
                raise ValueError("another shape")
            flat = list(chain.from_iterable(flat))
        if set(map(type, flat)) == {int}:  # `bytes` would also accept true
            return np.frombuffer(bytes(flat), np.uint8).reshape(shape)
    except (KeyError, TypeError, ValueError):
        pass  # invalid: the slow path below finds the reason and the field
    pixels = list(_checked(value, where))
    return np.array(pixels, np.uint8).reshape(SHAPES[len(value)])


def _checked(value: Any, where: str) -> Iterator[int]:
    """Yield the pixels one by one; raise Refusal at the first invalid one."""
    if type(value) is not list or len(value) not in SHAPES:
        found = f"{len(value)} rows" if type(value) is list else _describe(value)
        raise Refusal(
            f"an image is a list of 28 rows of 28 pixels, or of 32 rows of 32 [r, g, b]; got {found}", field=where
        )
    yield from _items(value, SHAPES[len(value)], where)


def _items(value: Any, shape: tuple[int, ...], where: str) -> Iterator[int]:
    if not shape:
        if type(value) is not int or not 0 <= value <= 255:
            raise Refusal(f"{RULE}, got {_describe(value)}", field=where)
        yield value
        return
    if type(value) is not list or len(value) != shape[0]:
        found = f"a list of {len(value)}" if type(value) is list else _describe(value)
        raise Refusal(f"must be a list of {shape[0]}, got {found}", field=where)
    for number, part in enumerate(value):
        yield from _items(part, shape[1:], f"{where}[{number}]")


def _describe(value: Any) -> str:
    """Describe a JSON value briefly."""
    return {str: "a string", list: "a list", dict: "an object"}.get(type(value)) or json.dumps(value)[:30]


def remove_metadata(data: bytes) -> bytes:
    """Remove chunks from a PNG file that do not define pixels: comments, colour profiles, times.

    These chunks may be compressed, so they are skipped by their length and never decompressed. Raises Refusal if the
    file is not a sequence of chunks from IHDR to IEND, or has an unknown critical chunk.
    """
    if not data.startswith(SIGNATURE):
        raise Refusal("not a readable PNG file (wrong signature)", field="file")
    kept, place, kind = [SIGNATURE], len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[place : place + 8].ljust(8, b"\0"))
        end = place + 12 + length  # length, kind, content, checksum
        if end > len(data) or (place == len(SIGNATURE)) != (kind == b"IHDR"):
            raise Refusal("not a readable PNG file (its chunks are truncated or in the wrong order)", field="file")
        if kind in CHUNKS:
            kept.append(data[place:end])
        elif not kind[0] & 0x20:  # an upper-case letter marks a critical chunk, which may affect the pixels
            raise Refusal(f"not a readable PNG file (unknown chunk {kind!r})", field="file")
        place = end
    return b"".join(kept)


def from_png(data: bytes) -> np.ndarray:
    """Bytes of a PNG file -> (28, 28) or (32, 32, 3) uint8

    The size in the header is checked before any pixel is decompressed, so a decompression bomb is refused without cost.
    Raises Refusal for an invalid file.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(remove_metadata(data)), formats=["PNG"]) as image:
            width, height = image.size
            if width != height or height not in SHAPES:
                raise Refusal(f"an image must be 28x28 grey or 32x32 colour, got {width}x{height}", field="file")
            if image.mode not in READABLE:
                raise Refusal(f"pixels must have 8 bits per channel, got Pillow's mode {image.mode}", field="file")
            return np.asarray(image.convert(MODES[height]), np.uint8).reshape(SHAPES[height])
    except Refusal:
        raise
    except Exception as error:  # Pillow raises many types of exceptions for a broken file
        raise Refusal(f"not a readable PNG file ({type(error).__name__})", field="file") from error
