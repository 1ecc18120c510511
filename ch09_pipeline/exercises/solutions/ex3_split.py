"""Solution: a checksum of each image.

The position of an image changes when a batch is added before it. Python's `hash` of bytes would not do either: it
differs from process to process.
"""

import zlib


def held_out(images: list[bytes]) -> list[bool]:
    """Bytes of each image -> whether it is held out"""
    return [zlib.crc32(image) % 10 == 0 for image in images]
