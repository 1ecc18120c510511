"""Losses of a segmentation: cross-entropy and Dice loss, both without void pixels.

Dimensions: B batch, K classes, H, W height and width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.data.masks.masked import VOID

SMOOTHING = 1.0
"""Added to numerator and denominator of the Dice coefficient, so that a class without pixels does not divide by 0."""


def cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """(B, K, H, W) logits, (B, H, W) masks -> mean cross-entropy of the pixels that are not void; 0 if all are"""
    total = F.cross_entropy(logits, masks.long(), ignore_index=VOID, reduction="sum")
    return total / (masks != VOID).sum().clamp(min=1)


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """(B, K, H, W) logits, (B, H, W) masks -> 1 - mean over the classes of the Dice coefficient

    D_k = (2 sum p_k y_k + s) / (sum p_k + sum y_k + s), over all pixels of the batch that are not void, with
    probabilities p, y = 1 for pixels of the class k, else 0, and s = SMOOTHING.
    """
    counted = (masks != VOID).unsqueeze(1)
    p = logits.softmax(1) * counted
    classes = torch.arange(logits.shape[1], device=masks.device).view(1, -1, 1, 1)
    y = (masks.unsqueeze(1) == classes).to(p.dtype)
    overlap, total = (p * y).sum((0, 2, 3)), (p + y).sum((0, 2, 3))
    return 1 - ((2 * overlap + SMOOTHING) / (total + SMOOTHING)).mean()
