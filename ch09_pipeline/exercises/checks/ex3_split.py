"""Check of exercise 3: find the bug: a validation split that new data change."""

import zlib
from collections.abc import Callable
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise


def crc32_by_bits(data: bytes) -> int:
    """Compute the CRC-32 checksum bit by bit."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0xEDB88320 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def split_by_bits(images: list[bytes]) -> list[bool]:
    """Expected split."""
    return [crc32_by_bits(image) % 10 == 0 for image in images]


def every_tenth(images: list[bytes]) -> list[bool]:
    """Typical mistake: the position decides."""
    return [place % 10 == 0 for place in range(len(images))]


def by_checksum(rule: Callable[[int], bool]) -> Callable[[list[bytes]], list[bool]]:
    """Make a function that applies a rule to the checksums."""
    return lambda images: [rule(zlib.crc32(image)) for image in images]


def image_of(number: int) -> bytes:
    """Return an image of four bytes."""
    return bytes([number % 256, number // 256, 7, 9])


OUT = [image_of(number) for number in range(200) if zlib.crc32(image_of(number)) % 10 == 0]
IN = [image_of(number) for number in range(200) if zlib.crc32(image_of(number)) % 10]


def sample_images(generator: Random, size: int) -> Arguments:
    """Random images, with copies."""
    return {"images": [generator.choice([generator.choice(OUT), generator.choice(IN)]) for _ in range(3 * size)]}


SPLIT = Exercise(
    file="ex3_split",
    function="held_out",
    reference=split_by_bits,
    cases=(
        Case({"images": OUT[:1]}, "the checksum of this image is divisible by 10"),
        Case({"images": IN[:1]}, "the checksum of this image is not divisible by 10"),
        Case({"images": [IN[0], OUT[0]]}, "the same image is held out at any place"),
        Case({"images": [OUT[0], OUT[0]]}, "copies of an image are on the same side"),
    ),
    sample=sample_images,
    hint="The place in the list must not occur in the function. `zlib.crc32(image)` is the checksum of one image.",
    mistakes={
        "the place of an image changes with a new batch; only its content may decide": every_tenth,
        "hold out one image in ten, not nine": by_checksum(lambda checksum: checksum % 10 != 0),
        "divisible by 10 means that the remainder is 0": by_checksum(lambda checksum: checksum % 10 == 9),
        "the checksum is that of each image, not that of the whole batch": lambda images: (
            [zlib.crc32(b"".join(images)) % 10 == 0] * len(images)
        ),
    },
)
