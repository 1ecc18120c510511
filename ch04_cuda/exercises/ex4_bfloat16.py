"""Round float32 to bfloat16 (20 minutes)

A bfloat16 number is the upper half of a float32 number: sign, 8 bits of exponent, 7 bits of mantissa. A float32 number
is rounded to the nearest bfloat16 number; halfway between two, to the one whose last bit is 0. Do this with the bits:

    bits = x.view(torch.int32)      the 32 bits of each number
    bits.view(torch.float32)        the numbers with these bits

Return the rounded numbers as float32, so that their lower 16 bits are 0. There are no NaN among them.

Check: python -m ch04_cuda.exercises 4
"""

from torch import Tensor


def round_to_bfloat16(x: Tensor) -> Tensor:
    """(N,) float32 numbers -> (N,) float32 numbers that bfloat16 can represent, without torch.bfloat16"""
    raise NotImplementedError
