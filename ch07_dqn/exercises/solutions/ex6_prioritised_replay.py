"""Solution: rare transitions get the largest weight, 1.

N P_i is 1 for a uniform distribution. With beta = 1 the expected value of the weighted loss is, up to a constant, that
of uniform sampling. Dividing by the largest weight only makes steps smaller, never larger.
"""

from torch import Tensor


def prioritise(delta: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """(N,) TD errors, none of them 0 -> (N,) probabilities, (N,) weights"""
    p = delta.abs() ** alpha
    p = p / p.sum()
    w = (len(delta) * p) ** -beta
    return p, w / w.max()
