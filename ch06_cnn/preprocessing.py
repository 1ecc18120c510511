"""Conversion of image bytes to network input.

Dimensions: B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor

MIDDLE, SPREAD = 128, 64
"""Scale bytes to -2 ... 2, about zero mean and unit variance. bfloat16 represents every result exactly."""


def scaled(images: Tensor, *, bf16: bool = False, channels_last: bool = True) -> Tensor:
    """(B, C, H, W) uint8 -> (B, C, H, W) floats in [-2, 2)

    With channels-last the channels of a pixel are adjacent in memory, as the fast convolutions require. With `bf16` the
    result is bfloat16, which autocast would convert it to in the first layer.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    numbers = images.to(torch.bfloat16 if bf16 else torch.float32).sub_(MIDDLE).div_(SPREAD)
    return numbers.contiguous(memory_format=layout)  # after the arithmetic, which is fastest in the stored order
