"""Check of exercise 2: gradient rule of the cumulative sum."""

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Case, Exercise


def cumulative_sum_gradient(g: Tensor) -> Tensor:
    """Gradient with respect to the operand of cumsum by autograd."""
    x = torch.zeros_like(g, requires_grad=True)
    (gradient,) = torch.autograd.grad(x.cumsum(0), x, g)
    return gradient


CUMULATIVE_SUM = Exercise(
    file="ex2_cumulative_sum_rule",
    function="cumulative_sum_rule",
    reference=cumulative_sum_gradient,
    cases=(
        Case({"g": vector(1)}, "with one element, y = x"),
        Case({"g": vector(0, 1)}, "y_2 = x_1 + x_2: both operands get g_2"),
        Case({"g": vector(1, 0)}, "y_1 = x_1: x_2 gets nothing from g_1"),
    ),
    sample=lambda generator, size: {"g": integers(generator, size)},
    sample_note="x_j is an operand of y_j, y_(j+1), ..., y_N",
    hint="Write down dL/dx_1, dL/dx_2 and dL/dx_3 for N = 3. `Tensor.flip(0)` reverses a vector.",
    mistakes={
        "this is the cumulative sum of g; but x_1 is an operand of every y_i, and x_N only of y_N": lambda g: g.cumsum(
            0
        ),
        "x_j is an operand of y_j itself, too": lambda g: cumulative_sum_gradient(g) - g,
        "each x_j gets all of g; but y_i does not depend on the x_j with j > i": lambda g: g.sum().expand_as(g),
    },
)
