"""Check of exercise 3: gradient rule of the Euclidean norm."""

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def norm_gradient(g: Tensor, y: Tensor, x: Tensor) -> Tensor:  # noqa: ARG001  # the signature of the exercise
    """Gradient of the norm by autograd."""
    operand = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(torch.linalg.vector_norm(operand), operand, g)
    return gradient


def with_norm(g: float, x: Tensor) -> Arguments:
    """Arguments of the rule."""
    return {"g": torch.tensor(g, dtype=x.dtype), "y": torch.linalg.vector_norm(x), "x": x}


NORM = Exercise(
    file="ex3_norm_rule",
    function="norm_rule",
    reference=norm_gradient,
    cases=(
        Case(with_norm(1.0, vector(2)), "for one positive number the norm is the number itself"),
        Case(with_norm(2.0, vector(1)), "the gradient of the loss is g times the derivative of the norm"),
        Case(with_norm(1.0, vector(3, 4)), "the derivative of the norm is a vector of norm 1"),
        Case(with_norm(1.0, vector(0, 0)), "at x = 0 the quotient is 0 / 0"),
    ),
    sample=lambda generator, size: with_norm(generator.randint(-3, 3), integers(generator, size)),
    hint=(
        "Differentiate the square root of the sum of squares by the chain rule; the result contains y. For x = 0 "
        "replace the divisor with `torch.where`."
    ),
    mistakes={
        "your gradient contains 0 / 0 at x = 0: replace the divisor there": lambda g, y, x: g * x / y,
        "the derivative of the square root is missing": lambda g, y, x: 2 * g * x,  # noqa: ARG005
        "at x = 0 the gradient must be 0; the norm is not differentiable there": lambda g, y, x: (
            g * torch.where(y == 0, 1, x) / torch.where(y == 0, 1, y)
        ),
        "a small constant in the divisor changes the gradient everywhere": lambda g, y, x: g * x / (y + 1e-6),
        "g is missing": lambda g, y, x: x / torch.where(y == 0, 1, y),  # noqa: ARG005
    },
)
