"""Solution: p is the probability of 0, not of a kept unit.

The function with the bug keeps a unit with probability p and divides it by p. The expected value is right, but with
p = 0.1 it drops 90 % of the units. With p = 0.5 both are the same, so a test with this value finds nothing.
"""

from torch import Tensor


def dropout(x: Tensor, u: Tensor, p: float, training: bool) -> Tensor:
    """(N,) units, (N,) uniform random numbers, probability of 0 -> (N,) units after dropout"""
    if not training:
        return x
    return x * (u >= p) / (1 - p)
