"""Check of exercise 3: find the bug: gradient accumulation."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def gradient_of_the_batch(x: Tensor, y: Tensor, w: float, size: int) -> float:  # noqa: ARG001
    """Expected gradient of the whole batch by autograd."""
    weight = torch.tensor(w, dtype=x.dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad((weight * x - y).square().mean(), weight)
    return gradient.item()


def wrong_accumulation(
    *, means: bool = False, divisor: str = "samples", last: bool = False, whole: bool = False
) -> Callable[..., float]:
    """Make a wrong function."""

    def wrong(x: Tensor, y: Tensor, w: float, size: int) -> float:
        slopes = (2 * (w * x - y) * x).split(size)
        if whole:
            slopes = [slope for slope in slopes if len(slope) == size] or [slopes[0]]
        found = [(slope.mean() if means else slope.sum()).item() for slope in slopes]
        total = found[-1] if last else sum(found)
        return total / {"samples": len(x), "parts": len(slopes), "none": 1, "kept": sum(map(len, slopes))}[divisor]

    return wrong


def samples(x: list[float], size: int) -> Arguments:
    """Arguments with targets 0 and the weight 1: the gradient is the mean of 2 x^2."""
    return {"x": vector(*x), "y": vector(*[0.0] * len(x)), "w": 1.0, "size": size}


def sample_samples(generator: Random, size: int) -> Arguments:
    """Random samples and a random size of the parts."""
    values = {name: integers(generator, size) for name in ("x", "y")}
    return {**values, "w": float(generator.randint(-2, 2)), "size": generator.randint(1, size)}


ACCUMULATION = Exercise(
    file="ex3_accumulation",
    function="accumulated_gradient",
    reference=gradient_of_the_batch,
    cases=(
        Case(samples([1], 1), "one part with one sample"),
        Case(samples([1, 2], 2), "one part with two samples"),
        Case(samples([1, 2], 1), "two parts of the same size"),
        Case(samples([0, 0, 1], 2), "three samples in parts of two: the last part has one"),
        Case(samples([1, 0, 0], 2), "the samples of the first part count as much as that of the last"),
    ),
    sample=sample_samples,
    hint="Which weight has each of the three samples in the mean of the means of (x_1, x_2) and (x_3)?",
    mistakes={
        "a sample of a small part gets a larger weight: divide the sum over all samples once": wrong_accumulation(
            means=True, divisor="parts"
        ),
        "the gradients of the parts are added, but nothing is divided by the number of samples": wrong_accumulation(
            divisor="none"
        ),
        "the means of the parts are added: the more parts, the larger the result": wrong_accumulation(
            means=True, divisor="none"
        ),
        "the gradients of all parts must be added; this is the last one": wrong_accumulation(last=True),
        "the samples of an incomplete part are left out": wrong_accumulation(whole=True, divisor="kept"),
    },
)
