"""Gradient rule of the cumulative sum (10 minutes)

The cumulative sum of a vector x has the elements

    y_i = x_1 + x_2 + ... + x_i.

Write its gradient rule: given g = dL/dy, return dL/dx. Every x_j is an operand of several y_i.

Check: python -m ch01_graphs.exercises 2
"""

from torch import Tensor


def cumulative_sum_rule(g: Tensor) -> Tensor:
    """(N,) gradient with respect to y -> (N,) gradient with respect to x"""
    raise NotImplementedError
