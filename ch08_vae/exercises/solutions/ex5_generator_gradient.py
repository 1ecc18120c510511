"""Solution: -s(-D) / B.

At D = -5 the gradient of the non-saturating loss is -s(5) = -0.993, that of the saturating loss -s(-5) = -0.007 (both
times 1/B). The first is largest for images that the discriminator rejects.
"""

import torch
from torch import Tensor


def generator_gradient(d: Tensor) -> Tensor:
    """(B,) logits of generated images -> (B,) gradient"""
    return -torch.sigmoid(-d) / len(d)
