"""Solution: the cumulative sum from the right.

y_i contains x_j if i >= j. So dL/dx_j = g_j + g_(j+1) + ... + g_N. In matrix form y = A x, where A has ones on and
below the diagonal, and dL/dx = A^T g, with ones on and above it.
"""

from torch import Tensor


def cumulative_sum_rule(g: Tensor) -> Tensor:
    """(N,) gradient with respect to y -> (N,) gradient with respect to x"""
    return g.flip(0).cumsum(0).flip(0)
