"""Check of exercise 6: compute logsumexp without overflow."""

import torch

from common.exercises.arguments import integers, single
from common.exercises.exercise import Case, Exercise

LOGSUMEXP = Exercise(
    file="ex6_logsumexp",
    function="logsumexp",
    reference=lambda z: torch.logsumexp(z.double(), 0).to(z.dtype),
    tolerance=1e-6,
    cases=(
        Case({"z": single(0)}, "the logarithm of one exponential is the number itself"),
        Case({"z": single(0, 0)}, "two equal numbers: log 2 is added"),
        Case({"z": single(1000, 0)}, "e^1000 overflows"),
        Case({"z": single(-1000, -1000)}, "e^-1000 is rounded to 0, and log 0 is minus infinity"),
        Case({"z": single(-1000, 1000)}, "numbers far apart"),
        Case({"z": single(*range(60, 100))}, "with the mean subtracted, some exponents are still large"),
        Case({"z": single(-200, -100, -50, 400)}, "e^300 overflows: the mean is not large enough to be subtracted"),
    ),
    sample=lambda generator, size: {"z": integers(generator, size, low=-200, high=200).float()},
    hint="For every number m, logsumexp(z) = m + logsumexp(z - m). Which m makes the largest exponent 0?",
    mistakes={
        "e^z overflows or is rounded to 0: subtract a number from z first": lambda z: z.exp().sum().log(),
        "the subtracted maximum must be added again": lambda z: (z - z.max()).exp().sum().log(),
        "after subtracting the mean the largest exponent can still be large": lambda z: (
            z.mean() + (z - z.mean()).exp().sum().log()
        ),
        "the maximum is only an approximation": lambda z: z.max(),
    },
)
