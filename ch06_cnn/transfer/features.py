"""Outputs of frozen layers: computed once for each image, and used in every epoch after that.

Frozen layers give the same output for the same pixels. Augmentation would change the pixels, so a fixed number of views
of each training image is computed: the image, its mirror image, then randomly shifted ones.

Dimensions: B batch, N images, V views, C channels, H and W, S side length of the network's input.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.architectures.efficientnet_lite import normalised
from ch06_cnn.convolution.augment import augment, random_flips

CHUNK = 100
"""Number of images per forward pass."""

SHIFT = 1 / 16
"""Maximum random shift, as a part of the side length."""


def network_input(images: Tensor, size: int) -> Tensor:
    """(B, 3, H, H) uint8 -> (B, 3, S, S) normalised pixels, enlarged or reduced by bilinear interpolation"""
    pixels = normalised(images)
    if images.shape[2] == size:
        return pixels
    smaller = images.shape[2] > size
    return F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=smaller)


def shifted(images: Tensor, flips: Tensor) -> Tensor:
    """(B, 3, H, H) uint8, (B,) flip mask -> the same shape, shifted at random by up to SHIFT of the side length"""
    return augment(images, flips, shift=max(1, round(SHIFT * images.shape[2])))


def augmented(images: Tensor) -> Tensor:
    """(B, 3, H, H) uint8 -> the same shape: random flips and shifts"""
    return shifted(images, random_flips(len(images), images.device))


def views(images: Tensor, count: int) -> list[Tensor]:
    """(N, 3, H, H) uint8 -> V tensors of this shape: images, mirror images, then shifted ones of both kinds in turn"""
    plain = [images, images.flip(3)]
    random = [shifted(images, torch.full((len(images),), number % 2 == 1)) for number in range(2, count)]
    return (plain + random)[:count]


@torch.no_grad()  # not inference mode: the results are inputs of layers that are trained
def outputs(
    compute: Callable[[Tensor], Tensor],
    inputs: Tensor,
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float32,
    bf16: bool = False,
) -> Tensor:
    """(N, ...) inputs -> (N, ...) outputs of a function of a batch, on the CPU"""
    parts = []
    for part in inputs.split(CHUNK):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            result = compute(part.to(device))
        parts.append(result.to("cpu", dtype))
    return torch.cat(parts)


def lower_outputs(layers: nn.Module, images: Tensor, size: int, device: torch.device, *, bf16: bool = False) -> Tensor:
    """(N, 3, H, H) uint8 -> (N, C, H', W') output of frozen layers in float16, which halves the memory"""
    return outputs(lambda part: layers(network_input(part, size)), images, device, dtype=torch.float16, bf16=bf16)
