"""Solution: apply the Bellman equation until nothing changes.

Each application multiplies the largest error of Q by at most gamma, so the values converge from every start.
"""

import torch
from torch import Tensor


def value_iteration(reward: Tensor, next_state: Tensor, terminal: Tensor, discount: float) -> Tensor:
    """(S, A) rewards, (S, A) indices of the next states, (S,) flags of terminal states -> (S, A) Q-values"""
    q = torch.zeros_like(reward)
    while True:
        value = q.max(1).values * ~terminal
        before, q = q, reward + discount * value[next_state]
        if (q - before).abs().max() <= 1e-12:
            return q
