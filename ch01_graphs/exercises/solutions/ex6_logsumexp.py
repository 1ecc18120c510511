"""Solution: subtract the maximum first.

For every m, logsumexp(z) = m + logsumexp(z - m). With m = max z the largest exponent is 0: no exponential overflows,
and the sum is at least 1, so its logarithm is finite.
"""

from torch import Tensor


def logsumexp(z: Tensor) -> Tensor:
    """(N,) vector, N >= 1 -> () scalar"""
    m = z.max()
    return m + (z - m).exp().sum().log()
