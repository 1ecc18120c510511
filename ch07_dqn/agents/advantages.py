"""Generalised advantage estimation (Schulman et al. 2016), for rollouts of parallel environments.

Dimensions: T steps, M environments.
"""

import torch
from torch import Tensor


def generalised_advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """(T, M) rewards, V(s[t]), V(s[t+1]) and ends of episodes -> (T, M) advantages

    d[t] = r[t] + g V(s[t+1]) - V(s[t])          without V(s[t+1]) if s[t+1] is terminal
    A[t] = d[t] + g l A[t+1]                     without A[t+1] if the episode ended, and in the last step

    s[t+1] is the state that step t led to, never the first state of the next episode: at a time limit V(s[t+1])
    estimates the rewards that could follow.
    """
    td_error = reward + discount * next_value * ~terminated - value
    decay = discount * gae_lambda * (~(terminated | truncated)).to(td_error)
    advantage, following = torch.empty_like(td_error), torch.zeros_like(td_error[0])
    for t in reversed(range(len(td_error))):
        following = td_error[t] + decay[t] * following
        advantage[t] = following
    return advantage
