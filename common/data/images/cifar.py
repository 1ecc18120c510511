"""Convert CIFAR-10's binary records to a split of tensors, and back.

Dimensions: N images.
"""

from pathlib import Path

import torch

from common.data.images import binary
from common.data.images.image_set import Split


def decode_cifar(data: bytes, where: Path | str) -> Split:
    """Decode CIFAR-10's binary records; raises ValueError like `binary.decode_cifar`."""
    pixels, labels = binary.decode_cifar(data, where)
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels).long())


def encode_cifar(split: Split) -> bytes:
    """Encode (N, 3, 32, 32) images as CIFAR-10's binary records."""
    return torch.cat([split.labels.to(torch.uint8)[:, None], split.pixels.flatten(1)], dim=1).numpy().tobytes()
