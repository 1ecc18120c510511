"""Effective sample size of importance weights (10 minutes)

Annealed importance sampling estimates a partition function by the mean of C weights w_c. The number of chains that
determine the estimate is

    effective chains = (sum_c w_c)^2 / sum_c w_c^2.

It is C for equal weights, and 1 if one weight is much larger than the others. Only the logarithms of the weights are
known, and e^1000 overflows. The result does not change if all weights are multiplied by the same number.

Check: python -m ch03_autoencoder_rbm.exercises 5
"""

from torch import Tensor


def effective_chains(log_w: Tensor) -> Tensor:
    """(C,) logarithms of the weights -> () effective number of chains"""
    raise NotImplementedError
