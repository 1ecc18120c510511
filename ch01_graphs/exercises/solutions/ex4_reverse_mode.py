"""Solution: one visit per node, from the last to the first.

When a node is visited, its derivative is complete: all nodes that use it have larger indices. It is then passed on to
the operands, where the contributions are added. Adding over paths instead is also correct, but a graph in which every
node uses the previous one twice has 2^N paths.
"""

Tape = list[list[tuple[int, float]]]


def reverse_mode(tape: Tape) -> list[float]:
    """Tape of N nodes -> N derivatives of the last node"""
    derivatives = [0.0] * len(tape)
    derivatives[-1] = 1.0
    for node in reversed(range(len(tape))):
        for operand, slope in tape[node]:
            derivatives[operand] += derivatives[node] * slope
    return derivatives
