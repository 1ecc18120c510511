"""Check of exercise 7: estimate the time of an epoch."""

import math
from collections.abc import Callable
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Step = tuple[int, float]


def step_by_step(small: Step, large: Step, images: int, batch: int) -> float:
    """Expected time: the line through both steps, evaluated for each batch of the epoch."""
    total, left = 0.0, images
    while left > 0:
        count = min(batch, left)
        share = (count - small[0]) / (large[0] - small[0])
        total += (1 - share) * small[1] + share * large[1]
        left -= count
    return total


def wrong_epoch(
    steps: Callable[[int, int], float], *, overhead: bool = True, full: bool = False, once: bool = False
) -> Callable[..., float]:
    """Make a wrong function."""

    def wrong(small: Step, large: Step, images: int, batch: int) -> float:
        per_image = (large[1] - small[1]) / (large[0] - small[0])
        fixed = small[1] - small[0] * per_image if overhead else 0.0
        count = steps(images, batch)
        return (1 if once else count) * fixed + (count * batch if full else images) * per_image

    return wrong


def ceil(images: int, batch: int) -> int:
    """Number of steps with an incomplete last batch."""
    return math.ceil(images / batch)


def measured(images: int, batch: int, small: Step = (1, 3.0), large: Step = (2, 4.0)) -> Arguments:
    """Arguments with an overhead of 2 ms and 1 ms per image by default."""
    return {"small": small, "large": large, "images": images, "batch": batch}


def sample_steps(generator: Random, size: int) -> Arguments:
    """Random measurements, whose overhead is not negative."""
    overhead, per_image = generator.randint(0, 5), generator.randint(1, 4)
    small = generator.randint(1, 4)
    large = small + generator.randint(1, 8)
    pairs = {name: (count, float(overhead + count * per_image)) for name, count in (("small", small), ("large", large))}
    return {**pairs, "images": generator.randint(1, 4 * size), "batch": generator.randint(1, 2 * size)}


EPOCH_TIME = Exercise(
    file="ex7_epoch_time",
    function="epoch_milliseconds",
    reference=step_by_step,
    cases=(
        Case(measured(1, 1), "one image: the measured step itself"),
        Case(measured(3, 3), "one step with three images: an overhead of 2 ms and 3 * 1 ms"),
        Case(measured(4, 2), "two steps have the overhead twice"),
        Case(measured(3, 2), "the last step has one image, but the whole overhead"),
        Case(measured(4, 4, small=(2, 8.0), large=(4, 12.0)), "2 ms per image, so the overhead is 8 - 2 * 2 ms"),
    ),
    sample=sample_steps,
    hint="How many milliseconds more does the larger step take, and for how many images more? What is left?",
    mistakes={
        "the incomplete batch is a step as well: round the number of steps up": wrong_epoch(
            lambda images, batch: max(1, images // batch)
        ),
        "each step has the overhead, so a fraction of a step has all of it": wrong_epoch(
            lambda images, batch: images / batch
        ),
        "the last batch has only the images that are left": wrong_epoch(ceil, full=True),
        "every step has the overhead, not only the first one": wrong_epoch(ceil, once=True),
        "the overhead is missing": wrong_epoch(ceil, overhead=False),
    },
)
