"""Check of exercise 1: find the bug: an export with NaN is accepted."""

import math
from collections.abc import Callable
from random import Random

import torch

from common.exercises.exercise import Arguments, Case, Exercise

Numbers = list[float]


def accepted_by_torch(exported: Numbers, original: Numbers, tolerance: float) -> bool:
    """Expected answer: the largest difference of tensors, which is NaN if one of them is."""
    a, y = torch.tensor(exported, dtype=torch.float64), torch.tensor(original, dtype=torch.float64)
    worst = (a - y).abs().max() / y.abs().max().clamp_min(1)
    return bool(worst.isfinite()) and float(worst) <= tolerance


def wrong_parity(scale: Callable[[Numbers], float], *, mean: bool = False, strict: bool = False) -> Callable[..., bool]:
    """Make a wrong function."""

    def wrong(exported: Numbers, original: Numbers, tolerance: float) -> bool:
        errors = [abs(a - y) for a, y in zip(exported, original, strict=True)]
        if not all(map(math.isfinite, errors)):
            return False
        worst = (sum(errors) / len(errors) if mean else max(errors)) / scale(original)
        return worst < tolerance if strict else worst <= tolerance

    return wrong


def largest(original: Numbers) -> float:
    """The divisor of the task."""
    return max(1.0, *map(abs, original))


def not_larger(exported: Numbers, original: Numbers, tolerance: float) -> bool:
    """Typical mistake: whatever is not larger is accepted."""
    worst = max(abs(a - y) for a, y in zip(exported, original, strict=True))
    return not worst / max([1.0, *map(abs, original)]) > tolerance


def outputs(exported: Numbers, original: Numbers, tolerance: float = 0.25) -> Arguments:
    """Arguments of a comparison."""
    return {"exported": exported, "original": original, "tolerance": tolerance}


def sample_outputs(generator: Random, size: int) -> Arguments:
    """Random outputs that differ by multiples of 1/4; sometimes one is NaN or infinite."""
    original = [float(generator.randint(-4, 4)) for _ in range(size)]
    exported = [y + generator.choice([0, 0, 0.25, -0.5]) for y in original]
    if generator.random() < 0.3:
        exported[generator.randrange(size)] = generator.choice([math.nan, math.inf])
    return outputs(exported, original, generator.choice([0.0625, 0.25, 0.5]))


PARITY = Exercise(
    file="ex1_parity",
    function="accepted",
    reference=accepted_by_torch,
    cases=(
        Case(outputs([1.0], [1.0]), "equal outputs"),
        Case(outputs([2.0], [1.0]), "a difference of 1"),
        Case(outputs([1.25], [1.0]), "a difference equal to the tolerance is accepted"),
        Case(outputs([9.0], [8.0]), "the difference is relative to the largest output: 1 / 8"),
        Case(outputs([0.125], [0.0]), "relative to 1 if all outputs are smaller"),
        Case(outputs([1.0, 0.5], [1.0, 0.0]), "the largest difference decides, not the mean"),
        Case(outputs([math.nan], [1.0]), "NaN must not be accepted"),
        Case(outputs([1.0, math.nan], [1.0, 1.0]), "NaN must not be accepted, wherever it is"),
        Case(outputs([math.inf], [1.0]), "an infinite output must not be accepted"),
    ),
    sample=sample_outputs,
    hint="What is `math.nan > 1`, and what is `math.nan <= 1`? And `max(0.0, math.nan)`? Try them in Python.",
    mistakes={
        "every comparison with NaN is false, so `not ... > tolerance` accepts it": not_larger,
        "the difference is relative to the largest output, or to 1": wrong_parity(lambda original: 1.0),  # noqa: ARG005
        "small outputs are compared with 1: dividing by them makes rounding errors large": wrong_parity(
            lambda original: max(map(abs, original)) or 1e-9
        ),
        "the largest difference decides, not the mean": wrong_parity(largest, mean=True),
        "a difference equal to the tolerance is accepted": wrong_parity(largest, strict=True),
    },
)
