"""Solution: s(u v) - 1 and s(n_k v) are the derivatives of the scores.

d log s(x) / dx = 1 - s(x) = s(-x). So the score u v has the derivative s(u v) - 1, which is never positive, and n_k v
has s(n_k v). The chain rule multiplies them with the other vector of each score.
"""

import torch
from torch import Tensor


def gradients(v: Tensor, u: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(D,) vector, (D,) output vector, (K, D) output vectors of random words -> their gradients"""
    near = torch.sigmoid(u @ v) - 1
    random = torch.sigmoid(negatives @ v)
    return near * u + random @ negatives, near * v, random[:, None] * v
