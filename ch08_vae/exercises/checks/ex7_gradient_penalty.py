"""Check of exercise 7: gradient penalty of a critic."""

import torch
from torch import Tensor

from common.exercises.arguments import integers, matrix, vector
from common.exercises.exercise import Case, Exercise


def penalty_by_autograd(y: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """Penalty from the gradient by autograd."""
    return (slopes(y, w, a) - 1).square().mean()


def slopes(y: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """(B,) norms of the gradients of the points."""
    y = y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(((y @ w.mT).relu() @ a).sum(), y)
    return gradient.norm(dim=1)


def penalty_without_relu(y: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """Penalty if all units had a slope of 1."""
    return ((a @ w).expand(len(y), -1).norm(dim=1) - 1).square().mean()


GRADIENT_PENALTY = Exercise(
    file="ex7_gradient_penalty",
    function="gradient_penalty",
    reference=penalty_by_autograd,
    cases=(
        Case({"y": matrix([1]), "w": matrix([3]), "a": vector(1)}, "D(y) = 3 y: the slope is 3, the penalty (3 - 1)^2"),
        Case({"y": matrix([-1]), "w": matrix([3]), "a": vector(1)}, "the unit is off: the slope is 0, the penalty 1"),
        Case({"y": matrix([1, 1]), "w": matrix([3, 4]), "a": vector(1)}, "the norm of (3, 4) is 5"),
        Case({"y": matrix([1], [-1]), "w": matrix([3]), "a": vector(1)}, "the mean over the batch of the penalties"),
        Case(
            {"y": matrix([1, 2]), "w": matrix([1, 0], [0, -1], [1, 1]), "a": vector(2, 5, -1)},
            "only the first and the third unit are on: 2 (1, 0) - (1, 1)",
        ),
    ),
    sample=lambda generator, size: {
        "y": integers(generator, size, 2),
        "w": integers(generator, size + 1, 2),
        "a": integers(generator, size + 1),
    },
    hint="d max(h, 0) / dh is 1 for h > 0, else 0. So grad D(y) = W^T (a s) with s = [W y > 0], for each point.",
    mistakes={
        "a ReLU whose input is negative has the slope 0": penalty_without_relu,
        "the norm is compared with 1, not its square": lambda y, w, a: (slopes(y, w, a).square() - 1).square().mean(),
        "the deviations from 1 are squared before the mean": lambda y, w, a: (slopes(y, w, a).mean() - 1).square(),
        "the penalty is a mean over the batch": lambda y, w, a: (slopes(y, w, a) - 1).square().sum(),
    },
)
