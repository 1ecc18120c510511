"""Check of exercise 5: find the bug: dropout."""

import math
from random import Random

from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def dropped(x: list[float], u: list[float], p: float, training: bool = True) -> Arguments:
    """Arguments of dropout."""
    return {"x": vector(*x), "u": vector(*u), "p": p, "training": training}


def inverted_dropout(x: Tensor, u: Tensor, p: float, training: bool) -> Tensor:
    """Expected output, element by element."""
    if not training:
        return x.clone()
    return vector(*(0.0 if drawn < p else unit / (1 - p) for unit, drawn in zip(x.tolist(), u.tolist(), strict=True)))


def sample_dropped(generator: Random, size: int) -> Arguments:
    """Random units and probability."""
    u = vector(*(generator.randint(1, 19) / 20 for _ in range(size)))
    p = generator.choice([0.0, 0.25, 0.5, 0.75])
    return {"x": integers(generator, size), "u": u, "p": p, "training": generator.random() < 0.8}


DROPOUT = Exercise(
    file="ex5_dropout",
    function="dropout",
    reference=inverted_dropout,
    cases=(
        Case(dropped([1], [0.3], 0.5, training=False), "in evaluation nothing changes"),
        Case(dropped([1], [0.7], 0.5), "u is not below p: the unit is kept, and divided by 1 - p"),
        Case(dropped([1], [0.3], 0.5), "u is below p: the unit is set to 0"),
        Case(dropped([1], [0.7], 0.2), "a kept unit is divided by 1 - p = 0.8"),
        Case(dropped([1, 1], [0.1, 0.7], 0.2), "only the first u is below p"),
        Case(dropped([1], [0.7], 0.0), "with p = 0 nothing is dropped"),
    ),
    sample=sample_dropped,
    hint="With which probability does the function set a unit to 0? Compare p = 0.1 with the task's first sentence.",
    mistakes={
        "this keeps units with probability p; p is the probability that a unit is set to 0": lambda x, u, p, training: (
            x * (u < p) / (p or math.nan) if training else x
        ),
        "units are kept with the wrong probability: set x_i to 0 where u_i < p": lambda x, u, p, training: (
            x * (u < p) / (1 - p) if training else x
        ),
        "the kept units must be divided by 1 - p": lambda x, u, p, training: x * (u >= p) if training else x,
        "the kept units are divided by 1 - p in training, so evaluation changes nothing": lambda x, u, p, training: (
            x * (u >= p) / (1 - p) if training else x * (1 - p)
        ),
    },
)
