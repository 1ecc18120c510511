"""Solution: subtract the mean first.

Both terms of mean(x^2) - mean(x)^2 are about mean(x)^2. If this is 10^8 times the variance, the seven significant
digits of float32 cancel. The differences x - mean(x) are small before they are squared, so no digits are lost.
"""

from torch import Tensor


def variance(x: Tensor) -> Tensor:
    """(N,) float32 numbers -> () variance"""
    return (x - x.mean()).square().mean()
