"""Solution: (p - q) / B.

The derivative of log p_k with respect to z_j is 1[j = k] - p_j. So dL/dz_j = -1/B sum_k q_k (1[j = k] - p_j)
= (p_j - q_j) / B, because the q_k add up to 1. `torch.softmax` subtracts the maximum, so it does not overflow. One-hot
labels are integers: times a Python number they would be float32.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def smoothed_gradient(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """(B, K) logits, (B,) class indices -> (B, K) gradient"""
    classes = z.shape[1]
    q = (1 - epsilon) * F.one_hot(labels, classes).to(z.dtype) + epsilon / classes
    return (torch.softmax(z, dim=1) - q) / len(z)
