"""Solution: from the last step to the first.

The two ends differ: at a terminal state no rewards follow, so V is left out. At a time limit rewards could follow, and
V estimates them. But in both cases the TD errors of the next episode do not belong into the sum.
"""

import torch
from torch import Tensor


def advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    lam: float,
) -> Tensor:
    """(T,) rewards, (T,) V(s_t), (T,) V(s_(t+1)), (T,) flags, (T,) flags -> (T,) advantages"""
    delta = reward + discount * next_value * ~terminated - value
    result, following = torch.zeros_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + discount * lam * ~(terminated[t] | truncated[t]) * following
        result[t] = following
    return result
