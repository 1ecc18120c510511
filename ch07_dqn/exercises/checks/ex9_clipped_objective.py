"""Check of exercise 9: derivative of PPO's clipped objective."""

from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def derivative_by_autograd(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Derivative of the objective by autograd."""
    ratio = ratio.clone().requires_grad_()
    objective = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    (derivative,) = torch.autograd.grad(objective.sum(), ratio)
    return derivative


def zero_outside(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Typical mistake: the derivative of the clipped term alone."""
    return advantage * ((ratio > 1 - clip) & (ratio < 1 + clip))


def above_only(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Typical mistake: the rule for positive advantages, for all."""
    return advantage * (ratio < 1 + clip)


def arguments(ratio: list[float], advantage: list[float]) -> Arguments:
    """Arguments of the derivative with c = 0.2."""
    return {"ratio": vector(*ratio), "advantage": vector(*advantage), "clip": 0.2}


def sample(generator: Random, size: int) -> Arguments:
    """Random ratios, multiples of 1/4, and advantages."""
    ratio = vector(*(generator.randint(1, 8) / 4 for _ in range(size)))
    return {"ratio": ratio, "advantage": integers(generator, size), "clip": 0.2}


CLIPPED_OBJECTIVE = Exercise(
    file="ex9_clipped_objective",
    function="objective_derivative",
    reference=derivative_by_autograd,
    cases=(
        Case(arguments([1], [3]), "the ratio is in the interval: L = p A"),
        Case(arguments([1.5], [3]), "a good action that is already more probable: L is constant"),
        Case(arguments([0.5], [-3]), "a bad action that is already less probable: L is constant"),
        Case(arguments([0.5], [3]), "a good action that became less probable: p A is the smaller one"),
        Case(arguments([1.5], [-3]), "a bad action that became more probable: p A is the smaller one"),
        Case(arguments([1.5, 1, 0.5], [1, -2, 4]), "each action by itself"),
    ),
    sample=sample,
    hint="Draw both arguments of the minimum over p, once for A = 1 and once for A = -1.",
    mistakes={
        "the minimum is p A where the ratio left the interval in the wrong direction: there the derivative is A": (
            zero_outside
        ),
        "for A < 0 the objective is constant below 1 - c, not above 1 + c": above_only,
        "inside the interval L = p A, so the derivative is A, not p A": lambda ratio, advantage, clip: (
            ratio * derivative_by_autograd(ratio, advantage, clip)
        ),
    },
)
