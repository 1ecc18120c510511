"""Solution: A (p - y) + h p (log p + H).

With one-hot y, d log p_a / dz = y - p. For the entropy, dH/dp_k = -log p_k - 1, and the softmax rule
p (g - sum_k p_k g_k) of chapter 1 gives dH/dz = -p (log p + H): the constant 1 cancels.
"""

import torch
from torch import Tensor


def policy_gradient(z: Tensor, action: int, advantage: float, h: float) -> Tensor:
    """(K,) logits -> (K,) gradient"""
    log_p = torch.log_softmax(z, 0)
    p = log_p.exp()
    entropy = -(p * log_p).sum()
    gradient = advantage * p + h * p * (log_p + entropy)
    gradient[action] -= advantage
    return gradient
