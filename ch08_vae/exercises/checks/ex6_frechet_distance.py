"""Check of exercise 6: Fréchet distance of two Gaussians."""

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def frechet_by_matrices(mean_a: Tensor, variance_a: Tensor, mean_b: Tensor, variance_b: Tensor) -> Tensor:
    """Expected distance with the eigenvalues of the product of the covariances."""
    product = torch.diag(variance_a) @ torch.diag(variance_b)
    roots = torch.linalg.eigvalsh(product).clamp_min(0).sqrt()
    return (mean_a - mean_b).square().sum() + variance_a.sum() + variance_b.sum() - 2 * roots.sum()


def gaussians(mean_a: list, variance_a: list, mean_b: list, variance_b: list) -> Arguments:
    """Arguments of the distance."""
    values = {"mean_a": mean_a, "variance_a": variance_a, "mean_b": mean_b, "variance_b": variance_b}
    return {name: vector(*value) for name, value in values.items()}


FRECHET_DISTANCE = Exercise(
    file="ex6_frechet_distance",
    function="frechet_distance",
    reference=frechet_by_matrices,
    cases=(
        Case(gaussians([0], [1], [0], [1]), "equal Gaussians"),
        Case(gaussians([0], [1], [3], [1]), "the squared distance of the means"),
        Case(gaussians([0], [1], [0], [9]), "(1 - 3)^2 = 4"),
        Case(gaussians([0, 0], [1, 4], [0, 0], [4, 1]), "the sum over two features"),
        Case(gaussians([1], [0], [0], [4]), "a variance of 0"),
    ),
    sample=lambda generator, size: {
        "mean_a": integers(generator, size),
        "variance_a": integers(generator, size, low=0),
        "mean_b": integers(generator, size),
        "variance_b": integers(generator, size, low=0),
    },
    hint="The trace is the sum of the elements v_a + v_b - 2 sqrt(v_a v_b). This is a square.",
    mistakes={
        "the standard deviations are compared, not the variances": lambda mean_a, variance_a, mean_b, variance_b: (
            (mean_a - mean_b).square().sum() + (variance_a - variance_b).square().sum()
        ),
        "this is d, not d^2": lambda mean_a, variance_a, mean_b, variance_b: frechet_by_matrices(
            mean_a, variance_a, mean_b, variance_b
        ).sqrt(),
        "the variances differ, too": lambda mean_a, variance_a, mean_b, variance_b: (  # noqa: ARG005
            (mean_a - mean_b).square().sum()
        ),
        "the features are added, not averaged": lambda mean_a, variance_a, mean_b, variance_b: (
            frechet_by_matrices(mean_a, variance_a, mean_b, variance_b) / len(mean_a)
        ),
    },
)
