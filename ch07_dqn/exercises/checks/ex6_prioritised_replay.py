"""Check of exercise 6: prioritised replay: importance-sampling weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Case, Exercise


def priorities_by_logarithms(delta: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """Expected probabilities and weights: powers as softmax of logarithms; the smallest P has the weight 1."""
    log_p = torch.log_softmax(alpha * delta.abs().log(), 0)
    return log_p.exp(), (beta * (log_p.min() - log_p)).exp()


def wrong_priorities(
    *, absolute: bool = True, power: bool = True, sign: int = -1, normalised: bool = True
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make a wrong function."""

    def wrong(delta: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
        p = (delta.abs() if absolute else delta) ** (alpha if power else 1)
        p = p / p.sum()
        w = (len(delta) * p) ** (sign * beta)
        return p, w / w.max() if normalised else w

    return wrong


PRIORITISED_REPLAY = Exercise(
    file="ex6_prioritised_replay",
    function="prioritise",
    reference=priorities_by_logarithms,
    results=("P", "w"),
    cases=(
        Case({"delta": vector(1, 1), "alpha": 1.0, "beta": 1.0}, "equal errors: uniform sampling, all weights 1"),
        Case({"delta": vector(1, 3), "alpha": 1.0, "beta": 0.0}, "with beta = 0 nothing is corrected"),
        Case({"delta": vector(1, -3), "alpha": 1.0, "beta": 0.0}, "the sign of an error does not matter"),
        Case({"delta": vector(1, 3), "alpha": 1.0, "beta": 1.0}, "sampled three times as often, weighted by a third"),
        Case({"delta": vector(1, 4), "alpha": 0.5, "beta": 1.0}, "alpha = 0.5: the roots of the errors"),
        Case({"delta": vector(1, 4), "alpha": 0.0, "beta": 1.0}, "alpha = 0: uniform sampling"),
    ),
    sample=lambda generator, size: {
        "delta": integers(generator, size + 1, low=1, high=4),
        "alpha": generator.choice([0.0, 0.5, 1.0]),
        "beta": generator.choice([0.0, 0.5, 1.0]),
    },
    hint="The largest weight belongs to the smallest probability. Both results can be written without a loop.",
    mistakes={
        "the weights are divided by the largest one": wrong_priorities(normalised=False),
        "frequent transitions need small weights: the exponent is -beta": wrong_priorities(sign=1),
        "the magnitudes of the errors are raised to the power alpha": wrong_priorities(power=False),
        "the sign of an error does not matter: use its magnitude": wrong_priorities(absolute=False),
    },
)
