"""Gradient rule of the Euclidean norm (10 minutes)

The norm y = sqrt(x_1^2 + ... + x_N^2) of a vector x is a scalar. Write its gradient rule: given g = dL/dy, return
dL/dx. At x = 0 the norm has no derivative. Return 0 there, as PyTorch does: a network whose input is 0 must not get a
NaN.

Check: python -m ch01_graphs.exercises 3
"""

from torch import Tensor


def norm_rule(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """() gradient with respect to y, () norm y, (N,) operand x -> (N,) gradient with respect to x"""
    raise NotImplementedError
