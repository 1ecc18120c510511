"""Losses and their gradients by hand, in numerically stable form.

Every loss is a mean over all elements (cross-entropy: over the rows). Each is followed by its gradient with respect to
its first argument, the outputs or logits.

Dimensions: B batch, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def require_same_shape(outputs: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless outputs and targets have the same shape (no broadcasting) and floating-point dtypes."""
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)}, targets {tuple(targets.shape)}: the shapes must be equal"
        )
    if not (outputs.is_floating_point() and targets.is_floating_point()):
        raise ValueError(f"outputs are {outputs.dtype}, targets {targets.dtype}: both must be floating point")
    require_not_empty(outputs)


def require_classes(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless the labels contain one class index per row of the logits."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits have shape {tuple(logits.shape)}, labels {tuple(labels.shape)}: need (B, K) and (B,)")
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}: they must be floating point")
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype}: they must be class indices of dtype torch.int64")
    require_not_empty(logits)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        wrong = low if low < 0 else high
        raise ValueError(f"label {wrong} is out of range: it must be between 0 and {logits.shape[1] - 1}")


def require_not_empty(outputs: Tensor) -> None:
    """Raise ValueError for an empty batch, whose mean would be NaN."""
    if outputs.numel() == 0:
        raise ValueError(f"outputs of shape {tuple(outputs.shape)} are empty: the loss needs at least one element")


# Regression: outputs and targets of the same shape.


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """L = mean (y' - y)²"""
    require_same_shape(outputs, targets)
    return (outputs - targets).square().mean()


def mse_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    """dL/dy' = 2 (y' - y) / n"""
    require_same_shape(outputs, targets)
    return 2 * (outputs - targets) / outputs.numel()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """L = mean |y' - y|"""
    require_same_shape(outputs, targets)
    return (outputs - targets).abs().mean()


def mae_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    """dL/dy' = sign(y' - y) / n, independent of the size of the error"""
    require_same_shape(outputs, targets)
    return (outputs - targets).sign() / outputs.numel()


def huber(outputs: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """L = mean of e²/2 where |e| <= delta, else delta (|e| - delta/2), with e = y' - y (Huber 1964)"""
    require_same_shape(outputs, targets)
    e = (outputs - targets).abs()
    return torch.where(e <= delta, e * e / 2, delta * (e - delta / 2)).mean()


def huber_gradient(outputs: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """dL/dy' = (e clamped to [-delta, delta]) / n"""
    require_same_shape(outputs, targets)
    return (outputs - targets).clamp(-delta, delta) / outputs.numel()


# Two classes: logits, and targets between 0 and 1 of the same shape.


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """L = -mean (y log s(z) + (1 - y) log(1 - s(z))) = mean (max(z, 0) - y z + log(1 + e^-|z|))

    The first form is infinite or NaN if s(z) rounds to 0 or 1. The second form is computed; it is finite for finite z.
    """
    require_same_shape(logits, targets)
    return (logits.clamp(min=0) - targets * logits + torch.log1p(torch.exp(-logits.abs()))).mean()


def binary_cross_entropy_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """dL/dz = (s(z) - y) / n"""
    require_same_shape(logits, targets)
    return (torch.sigmoid(logits) - targets) / logits.numel()


# K classes: logits (B, K) and class indices (B,).


def log_softmax(logits: Tensor) -> Tensor:
    """(B, K) -> (B, K): log p_k = z_k - m - log sum_j e^(z_j - m); with m = max_j z_j, no exponential overflows"""
    shifted = logits - logits.max(dim=1, keepdim=True).values
    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """L = -mean of log p_label over the rows"""
    require_classes(logits, labels)
    return -log_softmax(logits).gather(1, labels[:, None]).mean()


def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """dL/dz_k = (p_k - 1[k = label]) / B"""
    require_classes(logits, labels)
    p = log_softmax(logits).exp()
    return (p - F.one_hot(labels, logits.shape[1])) / len(logits)


@dataclass(frozen=True)
class Loss:
    """Loss, its gradient, and PyTorch's implementation."""

    function: Callable[[Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]
    library: Callable[[Tensor, Tensor], Tensor]


LOSSES = {
    "mse": Loss(mse, mse_gradient, F.mse_loss),
    "mae": Loss(mae, mae_gradient, F.l1_loss),
    "huber": Loss(huber, huber_gradient, F.huber_loss),
    "binary-cross-entropy": Loss(
        binary_cross_entropy, binary_cross_entropy_gradient, F.binary_cross_entropy_with_logits
    ),
    "cross-entropy": Loss(cross_entropy, cross_entropy_gradient, F.cross_entropy),
}
