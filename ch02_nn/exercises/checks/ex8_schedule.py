"""Check of exercise 8: learning-rate schedule: warm-up, then a cosine."""

import math
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise


def cosine_squared(step: int, steps: int, warm_up: int, peak: float) -> float:
    """Expected learning rate; (1 + cos a) / 2 = cos(a / 2)^2."""
    if step < warm_up:
        return peak - peak * (warm_up - 1 - step) / warm_up
    return peak * math.cos(math.pi / 2 * (step - warm_up) / (steps - warm_up)) ** 2


def scheduled(step: int, steps: int, warm_up: int) -> Arguments:
    """Arguments of a schedule with the peak 1."""
    return {"step": step, "steps": steps, "warm_up": warm_up, "peak": 1.0}


def sample_scheduled(generator: Random, size: int) -> Arguments:
    """Random step of a random schedule."""
    steps = generator.randint(2, 4 * size)
    numbers = {"step": generator.randrange(steps), "steps": steps, "warm_up": generator.randrange(steps)}
    return {**numbers, "peak": generator.choice([0.1, 1.0])}


def cosine_of(fraction: float, peak: float) -> float:
    """Half a cosine from the peak to 0."""
    return peak * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULE = Exercise(
    file="ex8_schedule",
    function="warm_up_cosine",
    reference=cosine_squared,
    cases=(
        Case(scheduled(0, 2, 0), "without a warm-up, the first step has the peak"),
        Case(scheduled(1, 2, 0), "half of the cosine"),
        Case(scheduled(0, 4, 2), "the first step of the warm-up is not 0"),
        Case(scheduled(1, 4, 2), "the last step of the warm-up has the peak"),
        Case(scheduled(2, 4, 2), "the cosine starts at the peak"),
        Case(scheduled(3, 4, 2), "half of the cosine, which takes T - W steps"),
    ),
    sample=sample_scheduled,
    hint="s is 0 in step W and 1 in step T. Divide the steps since the warm-up by the number of steps after it.",
    mistakes={
        "the first step has the learning rate 0 and changes nothing": lambda step, steps, warm_up, peak: (
            peak * step / warm_up if step < warm_up else cosine_of((step - warm_up) / (steps - warm_up), peak)
        ),
        "the learning rate jumps after the warm-up: s must be 0 in step W": lambda step, steps, warm_up, peak: (
            peak * (step + 1) / warm_up if step < warm_up else cosine_of(step / steps, peak)
        ),
        "the cosine ends too late: s must be 1 in step T": lambda step, steps, warm_up, peak: (
            peak * (step + 1) / warm_up if step < warm_up else cosine_of((step - warm_up) / steps, peak)
        ),
        "s is 1 in step T, not in step T - 1": lambda step, steps, warm_up, peak: (
            peak * (step + 1) / warm_up
            if step < warm_up
            else cosine_of((step - warm_up) / max(1, steps - warm_up - 1), peak)
        ),
    },
)
