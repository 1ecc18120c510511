"""Find the bug: a variance without significant digits (10 minutes)

The function below computes the variance of the elements of x,

    v = mean(x^2) - mean(x)^2,

which is correct in exact arithmetic. In float32 the result can be far off, and even negative. The problem is
well-conditioned: only the formula is unstable. Replace it.

Check: python -m ch01_graphs.exercises 7
"""

from torch import Tensor


def variance(x: Tensor) -> Tensor:
    """(N,) float32 numbers, N >= 2 -> () variance, without `torch.var` and without float64"""
    # Find the bug, then delete this comment.
    return (x * x).mean() - x.mean() ** 2
