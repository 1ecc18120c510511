"""Check of exercise 6: Grad-CAM heat map."""

from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers
from common.exercises.exercise import Arguments, Case, Exercise


def heat_by_positions(maps: Tensor, gradients: Tensor) -> Tensor:
    """Expected heat map, position by position."""
    alpha = [sum(g.flatten().tolist()) / g.numel() for g in gradients]
    rows = [
        [max(0.0, sum(a * float(A[r, s]) for a, A in zip(alpha, maps, strict=True))) for s in range(maps.shape[2])]
        for r in range(maps.shape[1])
    ]
    return torch.tensor(rows, dtype=maps.dtype)


def weighted(maps: Tensor, gradients: Tensor) -> Tensor:
    """Feature maps times their weights."""
    return gradients.mean((1, 2), keepdim=True) * maps


def given(maps: list, gradients: list) -> Arguments:
    """Arguments of the heat map."""
    return {name: torch.tensor(value).double() for name, value in (("maps", maps), ("gradients", gradients))}


def sample_maps(generator: Random, size: int) -> Arguments:
    """Random feature maps, which are not negative, and gradients."""
    shape = (generator.randint(1, 3), generator.randint(1, size), generator.randint(1, 2))
    return {"maps": integers(generator, *shape, low=0), "gradients": integers(generator, *shape)}


GRAD_CAM = Exercise(
    file="ex6_grad_cam",
    function="heat_map",
    reference=heat_by_positions,
    cases=(
        Case(given([[[2]]], [[[3]]]), "one map with one position"),
        Case(given([[[2]]], [[[-3]]]), "evidence against the class: 0"),
        Case(given([[[1, 2]]], [[[1, 3]]]), "alpha = 2 for all positions"),
        Case(given([[[3]], [[1]]], [[[1]], [[-1]]]), "the second map is evidence against the class: 3 - 1"),
        Case(given([[[1]], [[3]]], [[[1]], [[-1]]]), "the sum over the maps is negative"),
    ),
    sample=sample_maps,
    hint="`mean((1, 2), keepdim=True)` gives one number per feature map, which can be multiplied with the maps.",
    mistakes={
        "the ReLU is missing: negative sums are evidence against the class": lambda maps, gradients: weighted(
            maps, gradients
        ).sum(0),
        "the ReLU comes after the sum, or evidence against the class is lost": lambda maps, gradients: (
            weighted(maps, gradients).relu().sum(0)
        ),
        "alpha is one number per map, the mean of its gradient over the positions": lambda maps, gradients: (
            (gradients * maps).sum(0).relu()
        ),
        "alpha is the mean over the positions, not the sum": lambda maps, gradients: (
            (gradients.sum((1, 2), keepdim=True) * maps).sum(0).relu()
        ),
        "the maps are added, not averaged": lambda maps, gradients: weighted(maps, gradients).mean(0).relu(),
    },
)
