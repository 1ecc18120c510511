"""Solution: g x / y, with 0 instead of 0 / 0.

dy/dx_i = 2 x_i / (2 sqrt(x_1^2 + ... + x_N^2)) = x_i / y. The divisor must be replaced before the division: a NaN that
`torch.where` only hides afterwards would come back in the gradient of this gradient.
"""

import torch
from torch import Tensor


def norm_rule(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """() gradient with respect to y, () norm y, (N,) operand x -> (N,) gradient with respect to x"""
    return g * x / torch.where(y == 0, 1, y)
