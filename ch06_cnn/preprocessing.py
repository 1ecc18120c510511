"""From bytes to what a network computes with.

Dimensions: B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor

MIDDLE, SPREAD = 128, 64
"""Take bytes to -2 ... 2, about zero mean and unit variance. bfloat16 holds every result exactly: no picture loses."""


def scaled(images: Tensor, *, bf16: bool = False, channels_last: bool = True) -> Tensor:
    """(B, C, H, W) uint8 -> (B, C, H, W) floats in [-2, 2)

    Channels-last keeps the channels of a pixel together in memory, as the fast convolutions want them. Under autocast
    the pictures are made in bfloat16 at once: the first layer would convert them anyway.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    numbers = images.to(torch.bfloat16 if bf16 else torch.float32).sub_(MIDDLE).div_(SPREAD)
    return numbers.contiguous(memory_format=layout)  # last: arithmetic runs fastest along the stored order
