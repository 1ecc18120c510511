"""CIFAR-10's binary layout, www.cs.toronto.edu/~kriz/cifar.html, as numpy arrays: a light import, without torch.

A record is a label and then the red, green and blue plane of a picture; a file is nothing but records.

Dimensions: N images.
"""

from pathlib import Path

import numpy as np

RECORD = 1 + 3 * 32 * 32
"""Bytes of one image: its label, then its three planes."""


def decode_records(data: bytes, where: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Decode records to (N, 3, 32, 32) pixels and (N,) labels, both uint8 and views of the bytes.

    Raises ValueError, naming the place, where the bytes are no whole number of records or a label is above 9.
    """
    if not data or len(data) % RECORD:
        raise ValueError(
            f"{where} is no CIFAR-10 binary file: {len(data):,} bytes are not a whole number of records "
            f"of {RECORD:,}: delete it and fetch it again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() > 9:
        first = int((labels > 9).argmax())
        raise ValueError(f"{where} has label {labels[first]} at image {first}: the classes are 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels
