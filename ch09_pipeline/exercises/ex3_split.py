"""Find the bug: a validation split that new data change (10 minutes)

About one image in ten is held out for validation. Whether it is must depend on the image alone: if a batch is added or
removed, no other image may move between training and validation, and copies of an image must be on the same side.

The function below holds out every tenth image of the list. Instead, hold out an image if the CRC-32 checksum of its
bytes (`zlib.crc32`) is divisible by 10.

Check: python -m ch09_pipeline.exercises 3
"""


def held_out(images: list[bytes]) -> list[bool]:
    """Bytes of each image -> whether it is held out"""
    # Find the bug, then delete this comment.
    return [place % 10 == 0 for place, _ in enumerate(images)]
