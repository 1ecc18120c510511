"""Solution: the mean of both Gaussians, weighted by their precisions.

As a function of x_{t-1}, q(x_t | x_{t-1}) has mean x_t / sqrt(alpha) and precision alpha / beta. q(x_{t-1} | x_0) has
mean sqrt(abar_{t-1}) x_0 and precision 1 / (1 - abar_{t-1}). Both precisions are multiplied by beta (1 - abar_{t-1}),
so nothing is divided by 0 in the first step. Their sum is then beta + alpha (1 - abar_{t-1}) = 1 - abar_t.
"""

from torch import Tensor


def posterior_mean(x_0: Tensor, x_t: Tensor, alpha: Tensor, abar_before: Tensor) -> Tensor:
    """(P,) pixels x_0 and x_t, (P,) alpha_t and abar_{t-1} of each -> (P,) means of x_{t-1}"""
    beta, abar = 1 - alpha, alpha * abar_before
    return (abar_before.sqrt() * beta * x_0 + alpha.sqrt() * (1 - abar_before) * x_t) / (1 - abar)
