"""Solution: a token is in the set if those before it do not reach top_p.

The token that reaches top_p belongs to the set. So the cumulative sum is compared without the token's own probability;
the most probable token is always in the set.
"""

import torch
from torch import Tensor


def nucleus(p: Tensor, top_p: float) -> Tensor:
    """(V,) probabilities, 0 < top_p <= 1 -> (V,) probabilities"""
    ordered, index = p.sort(descending=True, stable=True)
    before = ordered.cumsum(0) - ordered
    kept = torch.where(before < top_p, ordered, 0)
    return torch.zeros_like(p).index_copy(0, index, kept / kept.sum())
