"""Check of exercise 7: collect requests to batches."""

from collections.abc import Callable
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Batches = list[list[int]]


def batches_from_the_front(arrivals: list[float], window: float, largest: int) -> Batches:
    """Expected batches: take the first one, then treat the rest in the same way."""
    found, start = [], 0
    while start < len(arrivals):
        within = sum(time <= arrivals[start] + window for time in arrivals[start:])
        count = min(within, largest)
        found.append(list(range(start, start + count)))
        start += count
    return found


def wrong_batches(
    *, since_last: bool = False, exclusive: bool = False, unlimited: bool = False, one_more: int = 0
) -> Callable[..., Batches]:
    """Make a wrong function."""

    def wrong(arrivals: list[float], window: float, largest: int) -> Batches:
        found: Batches = []
        for number, time in enumerate(arrivals):
            if found:
                waited = time - arrivals[found[-1][-1 if since_last else 0]]
                room = unlimited or len(found[-1]) < largest + one_more
                if room and (waited < window or (waited == window and not exclusive)):
                    found[-1].append(number)
                    continue
            found.append([number])
        return found

    return wrong


def by_the_clock(arrivals: list[float], window: float, largest: int) -> Batches:
    """Typical mistake: fixed windows of the clock."""
    found: dict[float, list[int]] = {}
    for number, time in enumerate(arrivals):
        found.setdefault(time // window, []).append(number)
    groups = [group[start : start + largest] for group in found.values() for start in range(0, len(group), largest)]
    return [list(group) for group in groups]


def requests(*arrivals: float, window: float = 2.0, largest: int = 3) -> Arguments:
    """Arguments with times in ms."""
    return {"arrivals": [float(time) for time in arrivals], "window": window, "largest": largest}


def sample_requests(generator: Random, size: int) -> Arguments:
    """Random requests."""
    arrivals = sorted(float(generator.randint(0, 2 * size)) for _ in range(generator.randint(1, 2 * size)))
    return requests(*arrivals, window=float(generator.randint(1, 4)), largest=generator.randint(1, 4))


BATCHES = Exercise(
    file="ex7_batches",
    function="batches",
    reference=batches_from_the_front,
    cases=(
        Case(requests(), "no requests"),
        Case(requests(5), "one request"),
        Case(requests(0, 1), "two requests within 2 ms"),
        Case(requests(0, 2), "exactly 2 ms after the first one"),
        Case(requests(0, 3), "more than 2 ms after the first one"),
        Case(requests(1, 2, 3), "the window starts with the first request, at 1 ms"),
        Case(requests(0, 1, 3), "3 ms after the first one, although 2 ms after the last one"),
        Case(requests(0, 0, 0, 0), "a batch has at most three requests"),
        Case(requests(0, 0, 0, 0, 1), "the fourth request opens a batch, to which the fifth belongs"),
    ),
    sample=sample_requests,
    hint="Keep a list of batches. The last one takes a request if it has room and its first request is recent enough.",
    mistakes={
        "the window starts with the first request of a batch; otherwise it could wait forever": wrong_batches(
            since_last=True
        ),
        "a request exactly at the end of the window belongs to the batch": wrong_batches(exclusive=True),
        "a full batch is closed: the next request opens another one": wrong_batches(unlimited=True),
        "a batch has at most `largest` requests, not one more": wrong_batches(one_more=1),
        "a batch is opened by a request, not by the clock": by_the_clock,
    },
)
