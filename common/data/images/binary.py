"""Read and check the binary files of MNIST (IDX) and CIFAR-10 as NumPy arrays.

Dimensions: N images.
"""

import math
import struct
from pathlib import Path

import numpy as np

from common.data import archives

CIFAR_RECORD = 1 + 3 * 32 * 32
"""Bytes of one image in CIFAR-10's binary version: label, then red, green and blue planes."""


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not, as a uint8 array of the shape in its header.

    The format is that of yann.lecun.com/exdb/mnist. Raises ValueError, naming the file, for a wrong magic number, too
    few or too many bytes, or a broken gzip file.
    """
    data = archives.read_bytes(path)
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or data[3] not in (1, 3):
        raise ValueError(
            f"{path} is not an IDX file of bytes: it starts with {data[:4].hex() or 'nothing'}, not 000008"
        )
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise ValueError(f"{path} is truncated: its header has {header} bytes, the file {len(data)}")
    shape = struct.unpack(f">{data[3]}I", data[4:header])
    if 0 in shape:
        raise ValueError(f"{path} is empty: its shape is {'x'.join(map(str, shape))}")
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"{path} has the wrong size: {'x'.join(map(str, shape))} needs {math.prod(shape):,} bytes, "
            f"it has {len(data) - header:,}: delete it and download it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).copy().reshape(shape)


def decode_cifar(data: bytes, where: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's binary records -> (N, 3, 32, 32) uint8 pixels, (N,) uint8 labels

    The format is that of www.cs.toronto.edu/~kriz/cifar.html. Raises ValueError, naming the file, if the size is not a
    multiple of the record size or a label is above 9.
    """
    if not data or len(data) % CIFAR_RECORD:
        raise ValueError(
            f"{where} is not a CIFAR-10 binary file: {len(data):,} bytes are not a whole number of records "
            f"of {CIFAR_RECORD:,}: delete it and download it again"
        )
    records = np.frombuffer(data, np.uint8).copy().reshape(-1, CIFAR_RECORD)
    check_labels(records[:, 0], where)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def check_labels(labels: np.ndarray, where: Path | str) -> None:
    """Raise ValueError, naming the file and the image, if a label is above 9."""
    if labels.max() > 9:
        first = int((labels > 9).argmax())
        raise ValueError(f"{where} has label {int(labels[first])} at image {first}: the classes are 0 to 9")
