"""Check of exercise 5: gradient of the generator's loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Case, Exercise


def generator_gradient_by_autograd(d: Tensor) -> Tensor:
    """Gradient of the non-saturating loss by autograd."""
    d = d.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.softplus(-d).mean(), d)
    return gradient


GENERATOR_GRADIENT = Exercise(
    file="ex5_generator_gradient",
    function="generator_gradient",
    reference=generator_gradient_by_autograd,
    cases=(
        Case({"d": vector(0)}, "an undecided discriminator: -1/2; a larger D lowers the loss"),
        Case({"d": vector(-5)}, "rejected images have the largest gradient"),
        Case({"d": vector(0, 0)}, "the loss is a mean over the batch"),
        Case({"d": vector(1000, -1000)}, "e^1000 overflows: use the sigmoid"),
    ),
    sample=lambda generator, size: {"d": integers(generator, size)},
    hint="d log(1 + e^-D) / dD = -e^-D / (1 + e^-D). Write this with a sigmoid.",
    mistakes={
        "this is the gradient of the saturating loss, which is small for rejected images": lambda d: (
            -torch.sigmoid(d) / len(d)
        ),
        "the sign is wrong: the generator wants larger D": lambda d: torch.sigmoid(-d) / len(d),
        "the loss is a mean over the batch": lambda d: -torch.sigmoid(-d),
        "e^-D overflows: use the sigmoid": lambda d: -(-d).exp() / (1 + (-d).exp()) / len(d),
    },
)
