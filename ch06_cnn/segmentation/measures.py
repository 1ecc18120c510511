"""Measures of a segmentation: confusion matrix, pixel accuracy, and intersection over union (IoU).

Dimensions: N images, H, W height and width, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.data.masks.masked import VOID


def confusion_matrix(masks: Tensor, guesses: Tensor, classes: int) -> Tensor:
    """(N, H, W) true and predicted classes -> (K, K) counts: n_ij pixels of the class i were predicted as class j

    Void pixels of the true masks are not counted.
    """
    counted = masks != VOID
    pairs = masks[counted].long() * classes + guesses[counted].long()
    return pairs.bincount(minlength=classes**2).view(classes, classes)


def pixel_accuracy(n: Tensor) -> float:
    """(K, K) counts -> share of correct pixels: sum_i n_ii / sum_ij n_ij"""
    return float(n.diagonal().sum() / n.sum().clamp(min=1))


def class_ious(n: Tensor) -> Tensor:
    """(K, K) counts -> (K,) IoU of each class: n_ii / (sum_j n_ij + sum_j n_ji - n_ii)

    NaN for a class that neither the true nor the predicted masks have.
    """
    n = n.double()
    union = n.sum(0) + n.sum(1) - n.diagonal()
    return torch.where(union > 0, n.diagonal() / union, torch.nan)


def mean_iou(n: Tensor) -> float:
    """(K, K) counts -> mean IoU of the classes that occur; 0 without any pixel"""
    return float(class_ious(n).nanmean().nan_to_num())


def measure(n: Tensor, names: Sequence[str], *, by_class: bool = False) -> dict[str, float]:
    """Return mean IoU and pixel accuracy; with `by_class` also the IoU of each class that occurs."""
    result = {"mean_iou": mean_iou(n), "pixel_accuracy": pixel_accuracy(n)}
    if by_class:
        pairs = zip(names, class_ious(n).tolist(), strict=True)
        result |= {f"{name.lower().replace(' ', '_')}_iou": value for name, value in pairs if value == value}
    return result
