"""Check of exercise 4: reverse-mode differentiation on a tape."""

from random import Random

import torch

from common.exercises.exercise import Arguments, Case, Exercise

Tape = list[list[tuple[int, float]]]


def derivatives_by_equations(tape: Tape) -> list[float]:
    """Solve the equations d_i = sum over k of slope_ki d_k, d_last = 1, as a triangular system."""
    slopes = torch.zeros(len(tape), len(tape), dtype=torch.float64)
    for node, operands in enumerate(tape):
        for operand, slope in operands:
            slopes[operand, node] += slope
    last = torch.zeros(len(tape), 1, dtype=torch.float64)
    last[-1] = 1
    system = torch.eye(len(tape), dtype=torch.float64) - slopes
    return torch.linalg.solve_triangular(system, last, upper=True)[:, 0].tolist()


def sample_tape(generator: Random, size: int) -> Arguments:
    """Random tape of size + 1 nodes with integer slopes."""
    tape: Tape = [[]]
    for node in range(1, size + 1):
        operands = range(generator.randint(0, 2))
        tape.append([(generator.randrange(node), float(generator.choice([-2, -1, 1, 2]))) for _ in operands])
    return {"tape": tape}


REVERSE_MODE = Exercise(
    file="ex4_reverse_mode",
    function="reverse_mode",
    reference=derivatives_by_equations,
    cases=(
        Case({"tape": [[]]}, "the derivative of the last node with respect to itself is 1"),
        Case({"tape": [[], [(0, 3.0)]]}, "y = 3 x"),
        Case({"tape": [[], [(0, 2.0)], [(1, 3.0)]]}, "a chain: the slopes are multiplied"),
        Case({"tape": [[], [(0, 3.0), (0, 3.0)]]}, "y = x x: the contributions of both operands are added"),
        Case({"tape": [[], [(0, 1.0)], [(0, 1.0), (1, 1.0)]]}, "a node that two later nodes use"),
        Case({"tape": [[], [(0, 1.0)], [(0, 5.0)], [(1, 2.0)]]}, "a node on which the last one does not depend"),
        Case(
            {"tape": [[], *([(node, 0.5), (node, 0.5)] for node in range(60))]},
            "61 nodes, each of which uses the previous one twice: there are 2^60 paths, so visit nodes, not paths",
        ),
        Case(
            {"tape": [[], *([(node, 1.0)] for node in range(1_100))]},
            "a chain of 1,101 nodes: deeper than Python's recursion limit",
        ),
    ),
    sample=sample_tape,
    sample_note="a node's derivative is complete only after all later nodes were visited",
    hint=(
        "Start with a list of zeros, and 1 for the last node. Go through the nodes from the last to the first; each "
        "adds its derivative times the slope to the derivative of every operand."
    ),
    mistakes={
        "a second contribution replaces the first; contributions must be added": lambda tape: overwritten(tape),
        "you return the slopes; each must be multiplied by the derivative of the node that uses it": lambda tape: (
            added_slopes(tape)
        ),
    },
)


def overwritten(tape: Tape) -> list[float]:
    """Typical mistake: assign instead of adding."""
    derivatives = [0.0] * (len(tape) - 1) + [1.0]
    for node in reversed(range(len(tape))):
        for operand, slope in tape[node]:
            derivatives[operand] = derivatives[node] * slope
    return derivatives


def added_slopes(tape: Tape) -> list[float]:
    """Typical mistake: forget the derivative of the node."""
    derivatives = [0.0] * (len(tape) - 1) + [1.0]
    for operands in tape:
        for operand, slope in operands:
            derivatives[operand] += slope
    return derivatives
