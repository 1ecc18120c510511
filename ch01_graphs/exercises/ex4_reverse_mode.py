"""Reverse-mode differentiation on a tape (20 minutes)

A tape lists the nodes of a graph in topological order: the operands of a node have smaller indices. For every node it
stores pairs (operand, slope): the index of an operand, and the derivative of the node with respect to this operand. For
example, x = 3 and y = x * x give

    tape = [[], [(0, 3.0), (0, 3.0)]]

because y has the operand x twice, each time with the slope x = 3. Compute the derivative of the last node with respect
to every node:

    dL/dv_i = sum of dL/dv_k * slope, over all pairs (i, slope) of all nodes k.

Here the result is [6.0, 1.0]. The tape may have 1,000 nodes, so visit each node once.

Check: python -m ch01_graphs.exercises 4
"""

Tape = list[list[tuple[int, float]]]


def reverse_mode(tape: Tape) -> list[float]:
    """Tape of N nodes -> N derivatives of the last node"""
    raise NotImplementedError
