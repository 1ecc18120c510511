"""Solution: A, or 0 where the ratio is outside the interval on the side that A favours.

For A > 0 the objective favours larger ratios: above 1 + c it is constant. Below 1 - c it is not, because there p A is
the smaller one: an action that has become too improbable by mistake can recover. For A < 0 it is the other way round.
"""

from torch import Tensor


def objective_derivative(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """(B,) ratios, (B,) advantages -> (B,) derivatives"""
    too_large = (advantage > 0) & (ratio > 1 + clip)
    too_small = (advantage < 0) & (ratio < 1 - clip)
    return advantage * ~(too_large | too_small)
