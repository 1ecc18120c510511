"""Check of exercise 2: gradient of cross-entropy with label smoothing."""

from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers
from common.exercises.exercise import Arguments, Case, Exercise


def smoothed_gradient_by_autograd(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Gradient of PyTorch's loss by autograd."""
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(z, labels, label_smoothing=epsilon), z)
    return gradient


def classified(rows: list[list[float]], labels: list[int], epsilon: float) -> Arguments:
    """Arguments of the gradient."""
    return {"z": torch.tensor(rows, dtype=torch.float64), "labels": torch.tensor(labels), "epsilon": epsilon}


def sample_classified(generator: Random, size: int) -> Arguments:
    """Random logits and labels of a few rows and classes."""
    rows, classes = generator.randint(1, size), generator.randint(2, size + 1)
    labels = torch.tensor([generator.randrange(classes) for _ in range(rows)])
    epsilon = generator.choice([0.0, 0.1, 0.5])
    return {"z": integers(generator, rows, classes), "labels": labels, "epsilon": epsilon}


def one_hot(z: Tensor, labels: Tensor) -> Tensor:
    """Return one-hot labels with the dtype of the logits."""
    return F.one_hot(labels, z.shape[1]).to(z.dtype)


def with_naive_softmax(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Typical mistake: exponentials overflow."""
    q = (1 - epsilon) * one_hot(z, labels) + epsilon / z.shape[1]
    return (z.exp() / z.exp().sum(1, keepdim=True) - q) / len(z)


def without_label(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Typical mistake: divide epsilon among the other classes only."""
    y = one_hot(z, labels)
    return (torch.softmax(z, 1) - (1 - epsilon) * y - epsilon / (z.shape[1] - 1) * (1 - y)) / len(z)


LABEL_SMOOTHING = Exercise(
    file="ex2_label_smoothing",
    function="smoothed_gradient",
    reference=smoothed_gradient_by_autograd,
    cases=(
        Case(classified([[0, 0]], [0], 0.0), "without smoothing the gradient is (p - y) / B with one-hot y"),
        Case(classified([[0, 0], [0, 0]], [0, 1], 0.0), "the loss is a mean over the rows"),
        Case(classified([[0, 0]], [0], 0.2), "the label has q = 0.9, the other class 0.1"),
        Case(classified([[0, 0, 0]], [2], 0.3), "the label has q = 0.8, the other classes 0.1 each"),
        Case(classified([[1000, 0]], [0], 0.2), "e^1000 overflows"),
    ),
    sample=sample_classified,
    hint="Start from dL/dz = (p - q) / B. `F.one_hot` gives 1[k = label], `torch.softmax` does not overflow.",
    mistakes={
        "the loss is a mean over the rows: divide by B": lambda z, labels, epsilon: (
            len(z) * smoothed_gradient_by_autograd(z, labels, epsilon)
        ),
        "the labels are not smoothed": lambda z, labels, epsilon: (  # noqa: ARG005
            smoothed_gradient_by_autograd(z, labels, 0.0)
        ),
        "epsilon is divided among all K classes, the label's included": without_label,
        "the sign is wrong: the gradient points to larger losses": lambda z, labels, epsilon: (
            -smoothed_gradient_by_autograd(z, labels, epsilon)
        ),
        "e^z overflows; `torch.softmax` subtracts the maximum first": with_naive_softmax,
    },
)
