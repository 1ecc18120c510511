"""Solution: sum over leading dimensions, then over dimensions of size 1.

A broadcast operand is used once per element of the broadcast dimensions. By the rule for a value that is used several
times, the gradients of its uses are added. `sum_to` in `gradient.py` does the same with nodes of a graph.
"""

from torch import Tensor


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Gradient g with respect to the result, shape of the operand -> gradient with respect to the operand"""
    while g.ndim > len(shape):
        g = g.sum(0)
    for dim, size in enumerate(shape):
        if size == 1:
            g = g.sum(dim, keepdim=True)
    return g
