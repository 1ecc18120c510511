"""Solution: the greedy action also gets its share of epsilon.

The uniform sample can be the greedy action. So its probability is 1 - epsilon + epsilon / A, not 1 - epsilon.
"""

import torch
from torch import Tensor


def epsilon_greedy(q: Tensor, epsilon: float) -> Tensor:
    """(A,) Q-values -> (A,) probabilities"""
    p = torch.full_like(q, epsilon / len(q))
    p[q.argmax()] += 1 - epsilon
    return p
