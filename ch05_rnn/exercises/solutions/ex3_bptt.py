"""Solution: from the last step to the first.

Only the recursion is sequential. dW is one matrix product of all da_t and all previous states; the first of these is 0.
"""

import torch
from torch import Tensor


def backward(h: Tensor, weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """(T, H) hidden states h_1 ... h_T, (H, H) weight, (T, H) delta -> (T, H) da, (H, H) dW"""
    da, following = torch.zeros_like(h), torch.zeros_like(h[0])
    for t in reversed(range(len(h))):
        following = (delta[t] + weight.mT @ following) * (1 - h[t] ** 2)
        da[t] = following
    return da, da[1:].mT @ h[:-1]
