"""Check of exercise 2: quantise numbers to 8 bits."""

from collections.abc import Callable
from fractions import Fraction
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Quantised = tuple[float, int, list[int]]


def quantised_by_fractions(x: list[float]) -> Quantised:
    """Expected numbers with exact fractions; q is the nearest of all 256 numbers."""
    values = [Fraction(value) for value in x]
    low, high = min([Fraction(0), *values]), max([Fraction(0), *values])
    scale = (high - low) / 255 or Fraction(1)
    zero = round(-low / scale)
    nearest = [min(range(256), key=lambda q: abs(scale * (q - zero) - value)) for value in values]
    return float(scale), zero, nearest


def wrong_quantiser(
    *,
    steps: int = 255,
    with_zero: bool = True,
    sign: int = -1,
    shifted: bool = True,
    rounded: Callable[[float], int] = round,
) -> Callable[[list[float]], Quantised]:
    """Make a wrong function."""

    def wrong(x: list[float]) -> Quantised:
        low, high = (min(0.0, *x), max(0.0, *x)) if with_zero else (min(x), max(x))
        scale = (high - low) / steps or 1.0
        zero = rounded(sign * low / scale)
        return scale, zero, [min(255, max(0, rounded(value / scale) + zero * shifted)) for value in x]

    return wrong


def sample_numbers(generator: Random, size: int) -> Arguments:
    """Random whole numbers whose range divides 255, so that no quotient is halfway between two numbers."""
    span = generator.choice([1, 3, 5, 15])
    low = -generator.randint(0, span)
    inner = [float(generator.randint(low, low + span)) for _ in range(size - 1)]
    return {"x": [float(low), *inner, float(low + span)]}


QUANTISE = Exercise(
    file="ex2_quantise",
    function="quantise",
    reference=quantised_by_fractions,
    results=("the scale", "the zero point", "the quantised numbers"),
    cases=(
        Case({"x": [0.0, 255.0]}, "the scale is 1"),
        Case({"x": [0.0, 51.0]}, "255 steps of 0.2"),
        Case({"x": [0.0, 0.25, 1.0]}, "0.25 * 255 = 63.75 is rounded to 64"),
        Case({"x": [-1.0, 2.0]}, "the zero point is 85, so that 0 is stored as 85"),
        Case({"x": [-255.0, 0.0]}, "no positive numbers: the zero point is 255"),
        Case({"x": [3.0, 5.0]}, "only positive numbers: the range is [0, 5]"),
        Case({"x": [-5.0, -3.0]}, "only negative numbers: the range is [-5, 0]"),
        Case({"x": [0.0]}, "all numbers are 0"),
    ),
    sample=sample_numbers,
    hint="Start with low = min(0, smallest number) and high = max(0, largest number). `round` gives a whole number.",
    mistakes={
        "256 numbers have 255 steps between them": wrong_quantiser(steps=256),
        "the range must contain 0, also if all numbers are positive or negative": wrong_quantiser(with_zero=False),
        "the zero point is -low / s, which is not negative": wrong_quantiser(sign=1),
        "the zero point is added to each quantised number": wrong_quantiser(shifted=False),
        "round to the nearest number; `int` rounds towards 0": wrong_quantiser(rounded=int),
    },
)
