"""Check of exercise 2: reconstruct images from principal components."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers, matrix, vector
from common.exercises.exercise import Arguments, Case, Exercise


def reconstruct_by_covariance(x: Tensor, k: int) -> Tensor:
    """Expected reconstructions by the eigenvectors of the covariance matrix."""
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean))
    chosen = vectors[:, vectors.shape[1] - k :]
    return mean + (x - mean) @ chosen @ chosen.mT


def wrong_components(
    *, centred: bool = True, restored: bool = True, smallest: bool = False
) -> Callable[[Tensor, int], Tensor]:
    """Make a wrong function."""

    def wrong(x: Tensor, k: int) -> Tensor:
        mean = x.mean(0) if centred else torch.zeros_like(x[0])
        directions = torch.linalg.svd(x - mean, full_matrices=True).Vh
        directions = directions[-k:] if smallest else directions[:k]
        return (mean if restored else 0) + (x - mean) @ directions.mT @ directions

    return wrong


def sample_images(generator: Random, size: int) -> Arguments:
    """Random images whose directions have different variances: each column has other powers of two."""
    pixels = min(size, 3)
    x = integers(generator, size + 2, pixels) * vector(*(4.0**i for i in range(pixels)))
    covariance = torch.cov(x.mT).reshape(pixels, pixels)
    values = torch.linalg.eigvalsh(covariance)
    k = generator.randint(1, pixels)
    gap = 1.0 if k == pixels else float(values[pixels - k] - values[pixels - k - 1])
    return {"x": x, "k": k if gap > 1e-3 else pixels}  # with equal eigenvalues the directions are not unique


PRINCIPAL_COMPONENTS = Exercise(
    file="ex2_principal_components",
    function="reconstruct",
    reference=reconstruct_by_covariance,
    cases=(
        Case({"x": matrix([1], [3]), "k": 1}, "as many components as pixels: nothing is lost"),
        Case({"x": matrix([0, 0], [1, 1]), "k": 1}, "images on a line: one component is enough"),
        Case({"x": matrix([0, 1], [2, 3]), "k": 1}, "images on a line that does not pass through 0"),
        Case(
            {"x": matrix([-2, 0], [2, 0], [0, -1], [0, 1]), "k": 1}, "the direction with the largest variance is kept"
        ),
        Case({"x": matrix([-2, 5], [2, 5], [0, 4], [0, 6]), "k": 1}, "the same images with another mean"),
    ),
    sample=sample_images,
    hint=(
        "Subtract the mean image. `torch.linalg.svd(x - mean, full_matrices=False).Vh` has the directions as rows, the "
        "one with the largest variance first. Do not forget the mean at the end."
    ),
    mistakes={
        "subtract the mean image before the decomposition": wrong_components(centred=False),
        "the mean image is missing in the reconstruction": wrong_components(restored=False),
        "these are the components with the smallest variance; `eigh` sorts in ascending order": wrong_components(
            smallest=True
        ),
    },
)
