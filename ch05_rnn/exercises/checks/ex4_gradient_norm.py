"""Check of exercise 4: clip gradients by their global norm."""

from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def clipped_by_vector(gradients: list[Tensor], c: float) -> list[Tensor]:
    """Expected gradients, from one long vector."""
    joined = torch.cat([g.flatten() for g in gradients])
    joined = F.normalize(joined, dim=0) * c if joined.norm() > c else joined
    parts = joined.split([g.numel() for g in gradients])
    return [part.reshape(g.shape) for part, g in zip(parts, gradients, strict=True)]


def sample_gradients(generator: Random, size: int) -> Arguments:
    """Random gradients of at most three parameters; the first element is not 0."""
    gradients = [integers(generator, generator.randint(1, 2)) for _ in range(min(size, 3))]
    gradients[0][0] = 1
    return {"gradients": gradients, "c": float(generator.randint(1, 5))}


GRADIENT_NORM = Exercise(
    file="ex4_gradient_norm",
    function="clip",
    reference=clipped_by_vector,
    tolerance=2e-6,  # some implementations add 1e-6 to the norm
    cases=(
        Case({"gradients": [vector(2)], "c": 1.0}, "the norm 2 is scaled to 1"),
        Case({"gradients": [vector(1)], "c": 2.0}, "a small gradient stays as it is"),
        Case({"gradients": [vector(3, 4)], "c": 1.0}, "the norm of (3, 4) is 5"),
        Case({"gradients": [vector(3), vector(4)], "c": 1.0}, "the norm of both tensors together is 5"),
        Case({"gradients": [vector(-6), vector(0.0, 8)], "c": 5.0}, "the direction remains the same"),
    ),
    sample=sample_gradients,
    hint="Add the squares of all elements of all tensors, take the root, and compute one factor for all of them.",
    mistakes={
        "each tensor is scaled by its own norm; this changes the direction of the step": lambda gradients, c: [
            clipped_by_vector([g], c)[0] if g.any() else g for g in gradients
        ],
        "each element is clipped; this changes the direction of the step": lambda gradients, c: [
            g.clamp(-c, c) for g in gradients
        ],
        "small gradients are enlarged: the factor is at most 1": lambda gradients, c: [
            g * c / torch.cat([other.flatten() for other in gradients]).norm() for g in gradients
        ],
    },
)
