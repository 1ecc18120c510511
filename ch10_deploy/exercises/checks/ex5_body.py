"""Check of exercise 5: find the bug: the size limit of a request body."""

from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Result = tuple[int, int]


def status_and_count(sizes: list[int], length: int | None, limit: int) -> Result:
    """Expected status, and number of pieces that are read, from the sums of the sizes."""
    if length is not None and length > limit:
        return 413, 0
    sums = list(accumulate(sizes))
    above = [number for number, total in enumerate(sums, 1) if total > limit]
    if above:
        return 413, above[0]
    received = sums[-1] if sums else 0
    return (200 if length in (None, received) else 400), len(sizes)


def counted(function: Callable[..., int], arguments: Arguments) -> Result:
    """Call a function with the pieces; return the status and the number of pieces that it has read."""
    if function is status_and_count:
        return status_and_count(**arguments)
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        for size in arguments["sizes"]:
            read += 1
            yield bytes(size)

    return function(pieces(), arguments["length"], arguments["limit"]), read


def wrong_body(
    *, header: bool = True, early: bool = True, counts: bool = True, equal: int = 0, compared: bool = True
) -> Callable[..., int]:
    """Make a wrong function."""

    def wrong(pieces: Iterator[bytes], length: int | None, limit: int) -> int:
        if header and length is not None and length > limit:
            return 413
        received = 0
        for piece in pieces:
            received += len(piece)
            if counts and early and received + equal > limit:
                return 413
        if counts and received + equal > limit:
            return 413
        return 400 if compared and length is not None and received != length else 200

    return wrong


def body(sizes: list[int], length: int | None = None, limit: int = 4) -> Arguments:
    """Arguments: sizes of the pieces, header, limit."""
    return {"sizes": sizes, "length": length, "limit": limit}


def sample_body(generator: Random, size: int) -> Arguments:
    """Random pieces, often with a right or a wrong header."""
    sizes = [generator.randint(1, 3) for _ in range(size)]
    length = generator.choice([None, sum(sizes), sum(sizes), generator.randint(0, 9)])
    return body(sizes, length, generator.randint(1, 8))


BODY = Exercise(
    file="ex5_body",
    function="status_of_body",
    reference=status_and_count,
    call=counted,
    results=("the status", "the number of pieces that are read"),
    cases=(
        Case(body([2], 2), "a small body"),
        Case(body([4], 4), "a body of exactly the limit"),
        Case(body([5], 5), "the header says that the body is too large: nothing is read"),
        Case(body([3, 3]), "without a header the received bytes are counted"),
        Case(body([3, 3, 3, 3]), "the second piece exceeds the limit: stop reading"),
        Case(body([3, 3, 3, 3], 2), "a wrong header does not help: the received bytes count"),
        Case(body([1], 3), "the body is shorter than its header says"),
        Case(body([], 0), "no body"),
    ),
    sample=sample_body,
    hint="Replace `join` by a loop that counts the bytes. When is it certain that the body is too large?",
    mistakes={
        "the header may be missing or wrong: count the received bytes": wrong_body(counts=False),
        "stop reading when the limit is exceeded; otherwise the memory fills up first": wrong_body(early=False),
        "if the header exceeds the limit, nothing needs to be read": wrong_body(header=False),
        "a body of exactly the limit is accepted": wrong_body(equal=1),
        "a body whose length differs from its header gets 400": wrong_body(compared=False),
    },
)
