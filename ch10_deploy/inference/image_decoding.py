"""From a request to pixels: nested lists of JSON, or a PNG file; or to what exactly is wrong with them.

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
"""The shapes of images, by their number of rows."""

MODES = {28: "L", 32: "RGB"}
"""What Pillow calls the kinds of pixels that these images have."""

READABLE = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Kinds of pixels with 8 bits a channel, which convert into one another."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"

CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Parts of a PNG file that say what its pixels are."""

RULE = "a pixel is a whole number from 0 to 255, written without a decimal point"


def from_lists(value: Any, where: str = "pixels") -> np.ndarray:
    """Nested lists of JSON -> (28, 28) or (32, 32, 3) uint8

    Good images take the short way: `bytes` checks type and range of all numbers at once. Raises Refusal, naming the
    place, for bad ones.
    """
    try:
        shape = SHAPES[len(value)]
        flat = value
        for length in shape[1:]:
            if set(map(len, flat)) != {length}:
                raise ValueError("another shape")
            flat = list(chain.from_iterable(flat))
        if set(map(type, flat)) == {int}:  # neither true nor 1.0, which Python takes for numbers as well
            return np.frombuffer(bytes(flat), np.uint8).reshape(shape)
    except (KeyError, TypeError, ValueError):
        pass  # something is wrong: the long way, below, finds out what and where
    pixels = list(_checked(value, where))
    return np.array(pixels, np.uint8).reshape(SHAPES[len(value)])


def _checked(value: Any, where: str) -> Iterator[int]:
    """Yield the pixels one by one; raise Refusal at the first that is wrong."""
    if type(value) is not list or len(value) not in SHAPES:
        found = f"{len(value)} rows" if type(value) is list else _kind(value)
        raise Refusal(
            f"an image is a list of 28 rows of 28 pixels, or of 32 rows of 32 [r, g, b]; got {found}", field=where
        )
    yield from _items(value, SHAPES[len(value)], where)


def _items(value: Any, shape: tuple[int, ...], where: str) -> Iterator[int]:
    if not shape:
        if type(value) is not int or not 0 <= value <= 255:
            raise Refusal(f"{RULE}, got {_kind(value)}", field=where)
        yield value
        return
    if type(value) is not list or len(value) != shape[0]:
        found = f"one of {len(value)}" if type(value) is list else _kind(value)
        raise Refusal(f"must be a list of {shape[0]}, got {found}", field=where)
    for number, part in enumerate(value):
        yield from _items(part, shape[1:], f"{where}[{number}]")


def _kind(value: Any) -> str:
    """Name a JSON value in a few letters."""
    return {str: "a text", list: "a list", dict: "an object"}.get(type(value)) or json.dumps(value)[:30]


def only_pixels(data: bytes) -> bytes:
    """Give a PNG file without the chunks that do not say what the pixels are: comments, colour profiles, times.

    Ordinary files have some, and they may be compressed: they are skipped by their length and never unpacked. Raises
    Refusal where the file is not a sequence of chunks from IHDR to IEND, or has a chunk that a reader must know and we
    do not.
    """
    if not data.startswith(SIGNATURE):
        raise Refusal("not a readable PNG file (it does not begin as one)", field="file")
    kept, place, kind = [SIGNATURE], len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[place : place + 8].ljust(8, b"\0"))
        end = place + 12 + length  # length, kind, content, checksum
        if end > len(data) or (place == len(SIGNATURE)) != (kind == b"IHDR"):
            raise Refusal("not a readable PNG file (its chunks are cut short or in another order)", field="file")
        if kind in CHUNKS:
            kept.append(data[place:end])
        elif not kind[0] & 0x20:  # a capital: what is written there changes the pixels
            raise Refusal(f"not a readable PNG file (its chunk {kind!r} is unknown)", field="file")
        place = end
    return b"".join(kept)


def from_png(data: bytes) -> np.ndarray:
    """The bytes of a PNG file -> (28, 28) or (32, 32, 3) uint8

    The size is read off the header and refused before any pixel is unpacked, so a file that would unpack to gigabytes
    costs nothing. Raises Refusal.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(only_pixels(data)), formats=["PNG"]) as image:
            width, height = image.size
            if width != height or height not in SHAPES:
                raise Refusal(f"an image is 28x28 grey or 32x32 colour, got {width}x{height}", field="file")
            if image.mode not in READABLE:
                raise Refusal(f"a pixel has 8 bits a channel, got Pillow's mode {image.mode}", field="file")
            return np.asarray(image.convert(MODES[height]), np.uint8).reshape(SHAPES[height])
    except Refusal:
        raise
    except Exception as error:  # Pillow raises almost anything on a broken file, and all of it is the file's fault
        raise Refusal(f"not a readable PNG file ({type(error).__name__})", field="file") from error
