"""Solution: subtract the maximum first.

The largest weight becomes 1, so both sums are between 1 and C.
"""

from torch import Tensor


def effective_chains(log_w: Tensor) -> Tensor:
    """(C,) logarithms of the weights -> () effective number of chains"""
    w = (log_w - log_w.max()).exp()
    return w.sum() ** 2 / w.square().sum()
