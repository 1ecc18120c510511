"""Check of exercise 5: one turn of a ring all-reduce."""

from collections.abc import Callable
from random import Random

import torch

from common.exercises.exercise import Arguments, Case, Exercise

Parts = list[list[float]]


def turn_by_matrices(parts: Parts, t: int) -> Parts:
    """Expected values: the sent values as a matrix, moved by one process."""
    values = torch.tensor(parts, dtype=torch.float64)
    process, part = torch.meshgrid(*(torch.arange(len(parts)),) * 2, indexing="ij")
    sent = values * (part == (process - t) % len(parts))
    return (values + sent.roll(1, 0)).tolist()


def wrong_turn(
    *, sign: int = -1, replaced: bool = False, backwards: bool = False, moved: bool = False
) -> Callable[[Parts, int], Parts]:
    """Make a wrong function."""

    def wrong(parts: Parts, t: int) -> Parts:
        count = len(parts)
        after = [list(values) for values in parts]
        for sender in range(count):
            part = (sender + sign * t) % count
            receiver = (sender + (-1 if backwards else 1)) % count
            own = 0.0 if replaced else parts[receiver][part]
            sent = parts[sender][part]
            after[receiver][part] = own + sent
            if moved and receiver != sender:
                after[sender][part] = 0.0
        return after

    return wrong


def all_parts(parts: Parts, t: int) -> Parts:  # noqa: ARG001
    """Typical mistake: every process sends all its parts."""
    count = len(parts)
    return [[parts[r][p] + parts[r - 1][p] for p in range(count)] for r in range(count)]


def sample_parts(generator: Random, size: int) -> Arguments:
    """Random values of two to five processes."""
    count = min(size, 4) + 1
    parts = [[float(generator.randint(-3, 3)) for _ in range(count)] for _ in range(count)]
    return {"parts": parts, "t": generator.randrange(count - 1)}


RING = Exercise(
    file="ex5_ring",
    function="ring_turn",
    reference=turn_by_matrices,
    cases=(
        Case({"parts": [[1.0, 0.0], [0.0, 0.0]], "t": 0}, "process 0 sends part 0 to process 1"),
        Case({"parts": [[0.0, 0.0], [0.0, 1.0]], "t": 0}, "process 1 sends part 1 to process 0"),
        Case({"parts": [[1.0, 0.0], [4.0, 0.0]], "t": 0}, "process 1 adds part 0 to its own"),
        Case(
            {"parts": [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "t": 1},
            "in turn 1 process 0 sends part (0 - 1) mod 3 = 2 to process 1",
        ),
        Case(
            {"parts": [[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]], "t": 0},
            "each process sends one part and receives another one",
        ),
    ),
    sample=sample_parts,
    hint="Copy the lists first. Then go through the senders: which part does each one send, and to which process?",
    mistakes={
        "part (r - t) mod N is sent: the parts go backwards from turn to turn": wrong_turn(sign=1),
        "the received part is added to the own one, it does not replace it": wrong_turn(replaced=True),
        "process r sends to r + 1, not to r - 1": wrong_turn(backwards=True),
        "the sender keeps its part": wrong_turn(moved=True),
        "each process sends one part per turn, not all of them": all_parts,
    },
)
