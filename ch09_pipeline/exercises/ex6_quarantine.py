"""Why a batch is quarantined (20 minutes)

A batch consists of records: one byte with the label, then `pixels` bytes with the image. Labels are 0, 1, ...,
`classes` - 1. An image whose pixels are all equal indicates a damaged disk. Return

    "empty"            if the batch has no bytes,
    "truncated"        if its last record is incomplete,
    "label"            if a label is not one of the classes,
    "single colour"    if all pixels of an image are equal,
    ""                 if the batch is good.

If several reasons apply, return the first one of this list.

Check: python -m ch09_pipeline.exercises 6
"""


def reason(batch: bytes, pixels: int, classes: int) -> str:
    """Bytes of a batch, bytes of an image (at least 2), number of classes -> reason for quarantine"""
    raise NotImplementedError
