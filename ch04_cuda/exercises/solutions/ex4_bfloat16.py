"""Solution: add half a unit of the last kept bit, then cut.

The lower 16 bits are cut off. Adding 0x7FFF carries into the upper half if they are above one half (0x8000); exactly
one half carries only together with the last kept bit, so a tie goes to the even number. A carry out of the mantissa
increases the exponent, as it should. The sign bit is not affected, so negative numbers need no case of their own.
"""

import torch
from torch import Tensor


def round_to_bfloat16(x: Tensor) -> Tensor:
    """(N,) float32 numbers -> (N,) float32 numbers that bfloat16 can represent"""
    bits = x.view(torch.int32)
    last = (bits >> 16) & 1
    return ((bits + 0x7FFF + last) & ~0xFFFF).view(torch.float32)
