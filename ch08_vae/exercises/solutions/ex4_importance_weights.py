"""Solution: logsumexp - log k.

The logarithm of a mean is logsumexp minus log k. For k = 1 the bound is the ELBO's estimate from one sample. The mean
of the logarithms is never larger than the logarithm of the mean.
"""

import math

import torch
from torch import Tensor


def importance_weighted_bound(log_w: Tensor) -> Tensor:
    """(k, B) logarithms of the weights of k samples of B images -> (B,) bounds"""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))
