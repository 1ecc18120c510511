"""Solution: probabilities for the statistics, states for the chain.

v' must depend on sampled states: with probabilities instead of h the hidden units would pass on more than one bit each.
In the statistics, p has the same expected value as h and less noise (Hinton 2010, section 3).
"""

import torch
from torch import Tensor


def contrastive_divergence(v: Tensor, weight: Tensor, a: Tensor, b: Tensor, u_h: Tensor, u_v: Tensor) -> Tensor:
    """(B, V) data, (V, H) weight, (V,) and (H,) biases, (B, H) and (B, V) uniform random numbers -> (V, H) dW"""
    p = torch.sigmoid(b + v @ weight)
    h = (u_h < p).to(v.dtype)
    sampled = (u_v < torch.sigmoid(a + h @ weight.mT)).to(v.dtype)
    return (v.mT @ p - sampled.mT @ torch.sigmoid(b + sampled @ weight)) / len(v)
