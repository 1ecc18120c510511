"""Check of exercise 6: find the bug: a percentile of latencies."""

import math

import numpy as np

from common.exercises.exercise import Arguments, Case, Exercise

Numbers = list[float]


def percentile_by_counting(times: Numbers, q: int) -> float:
    """Expected percentile: count for each time how many are not larger."""
    return min(time for time in times if 100 * sum(other <= time for other in times) >= q * len(times))


def one_too_far(times: Numbers, q: int) -> float:
    """Typical mistake: the rank as an index."""
    return sorted(times)[min(len(times) - 1, len(times) * q // 100)]


def of_floating_point(times: Numbers, q: int) -> float:
    """Typical mistake: a product that is slightly above a whole number."""
    return sorted(times)[math.ceil(q / 100 * len(times)) - 1]


def rounded_down(times: Numbers, q: int) -> float:
    """Typical mistake: the rank is rounded down."""
    return sorted(times)[max(0, q * len(times) // 100 - 1)]


def up_to(count: int, q: int) -> Arguments:
    """Arguments with the times 1, 2, ..., count."""
    return {"times": [float(time) for time in range(1, count + 1)], "q": q}


PERCENTILE = Exercise(
    file="ex6_percentile",
    function="percentile",
    reference=percentile_by_counting,
    cases=(
        Case(up_to(1, 50), "one time"),
        Case(up_to(2, 50), "half of two times: the first one"),
        Case(up_to(2, 51), "one of two times is less than 51 %"),
        Case(up_to(2, 100), "the largest time"),
        Case({"times": [3.0, 1.0, 2.0], "q": 50}, "the times are not sorted"),
        Case(up_to(4, 99), "three of four times are less than 99 %"),
        Case(up_to(100, 99), "99 of 100 times"),
        Case(up_to(100, 7), "7 of 100 times; 0.07 * 100 is 7.000000000000001 in floating point"),
        Case(up_to(200, 99), "198 of 200 times"),
    ),
    sample=lambda generator, size: {
        "times": [float(generator.randint(1, 9)) for _ in range(generator.randint(1, 3 * size))],
        "q": generator.choice([1, 25, 50, 75, 90, 99, 100]),
    },
    hint="The smallest time has rank 1 and index 0. Which rank has the 50th percentile of two times, and of three?",
    mistakes={
        "the rank is counted from 1, an index from 0": one_too_far,
        "a product in floating point may be slightly above the rank: compute with whole numbers": of_floating_point,
        "at least q % must not be larger: round the rank up": rounded_down,
        "the times must be sorted": lambda times, q: times[-(-q * len(times) // 100) - 1],
        "the result is one of the times, without interpolation": lambda times, q: float(np.percentile(times, q)),
    },
)
