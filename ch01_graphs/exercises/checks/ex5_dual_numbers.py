"""Check of exercise 5: forward mode: divide dual numbers."""

from random import Random

import torch

from common.exercises.exercise import Arguments, Case, Exercise

Dual = tuple[float, float]


def quotient_by_autograd(a: Dual, b: Dual) -> Dual:
    """Differentiate (a + a' t) / (b + b' t) at t = 0 by autograd."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    quotient = (a[0] + a[1] * t) / (b[0] + b[1] * t)
    (tangent,) = torch.autograd.grad(quotient, t)
    return quotient.item(), tangent.item()


def sample_duals(generator: Random, size: int) -> Arguments:
    """Two random dual numbers; the second is not 0."""
    a, a_tangent, b_tangent = (float(generator.randint(-size, size)) for _ in range(3))
    return {"a": (a, a_tangent), "b": (float(generator.choice([-1, 1]) * generator.randint(1, size)), b_tangent)}


DUAL_NUMBERS = Exercise(
    file="ex5_dual_numbers",
    function="divide",
    reference=quotient_by_autograd,
    results=("the value", "the tangent"),
    cases=(
        Case({"a": (6.0, 0.0), "b": (2.0, 0.0)}, "constants: the quotient is a constant"),
        Case({"a": (6.0, 1.0), "b": (2.0, 0.0)}, "t / 2 has the derivative 1 / 2"),
        Case({"a": (1.0, 0.0), "b": (2.0, 1.0)}, "1 / t has the derivative -1 / t^2"),
        Case({"a": (2.0, 1.0), "b": (2.0, 1.0)}, "t / t is constant"),
    ),
    sample=sample_duals,
    hint="q = a / b means q b = a. Apply the rule of the product to q b and solve for q'.",
    mistakes={
        "this divides the tangents, but the derivative of a quotient is not the quotient of the derivatives": (
            lambda a, b: (a[0] / b[0], a[1] / b[1] if b[1] else 0.0)
        ),
        "the contribution of the divisor is missing": lambda a, b: (a[0] / b[0], a[1] / b[0]),
        "the divisor's contribution is subtracted: if b grows, the quotient falls": lambda a, b: (
            a[0] / b[0],
            (a[1] * b[0] + a[0] * b[1]) / b[0] ** 2,
        ),
        "the square of the divisor is missing": lambda a, b: (a[0] / b[0], (a[1] * b[0] - a[0] * b[1]) / b[0]),
    },
)
