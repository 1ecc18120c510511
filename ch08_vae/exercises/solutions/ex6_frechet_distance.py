"""Solution: differences of means and of standard deviations.

For diagonal matrices the root is elementwise: S_a + S_b - 2 (S_a S_b)^(1/2) has the elements
v_a + v_b - 2 sqrt(v_a v_b) = (sqrt(v_a) - sqrt(v_b))^2.
"""

from torch import Tensor


def frechet_distance(mean_a: Tensor, variance_a: Tensor, mean_b: Tensor, variance_b: Tensor) -> Tensor:
    """(D,) mean and (D,) variances of the real features, the same of the generated ones -> () d^2"""
    return (mean_a - mean_b).square().sum() + (variance_a.sqrt() - variance_b.sqrt()).square().sum()
