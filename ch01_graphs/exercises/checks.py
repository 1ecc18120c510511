"""References, cases and hints of the exercises of chapter 1."""

from random import Random
from typing import Any

import torch
from torch import Tensor

from common.exercises.exercise import Arguments, Case, Exercise, integers, vector

# 1: broadcasting


def broadcast_gradient(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Gradient of the broadcast operand by autograd."""
    operand = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad((g * operand).sum(), operand)
    return gradient


def sample_broadcast(generator: Random, size: int) -> Arguments:
    """Random gradient, and the shape of an operand that is broadcast to it."""
    result = [generator.randint(1, 3) for _ in range(min(size, 4))]
    shape = [1 if generator.random() < 0.4 else length for length in result[generator.randint(0, len(result)) :]]
    return {"g": integers(generator, *result), "shape": tuple(shape)}


BROADCASTING = Exercise(
    file="ex1_broadcasting",
    function="sum_to",
    reference=broadcast_gradient,
    cases=(
        Case({"g": vector(1, 2), "shape": (2,)}, "an operand that is not broadcast gets g itself"),
        Case({"g": vector(1, 2), "shape": ()}, "a scalar operand is used in every element"),
        Case({"g": torch.ones(2, 3).double(), "shape": (3,)}, "the operand lacks the first dimension"),
        Case({"g": torch.ones(2, 3).double(), "shape": (2, 1)}, "the operand has size 1: keep this dimension"),
        Case({"g": torch.ones(2, 2).double(), "shape": (1, 2)}, "the operand has size 1: keep this dimension"),
    ),
    sample=sample_broadcast,
    sample_note="an operand can lack dimensions and have dimensions of size 1 at the same time",
    hint=(
        "First sum over the g.ndim - len(shape) leading dimensions, which the operand lacks. Then sum over each "
        "dimension with size 1 in shape, with keepdim=True."
    ),
    mistakes={
        "you average over the broadcast dimensions; the gradients of all uses must be added": lambda g, shape: (
            broadcast_gradient(g, shape) / (g.numel() / max(1, torch.Size(shape).numel()))
        ),
        "you take the gradient of the first use only; the gradients of all uses must be added": lambda g, shape: g[
            tuple(0 for _ in range(g.ndim - len(shape)))
        ][tuple(slice(0, length) for length in shape) or (Ellipsis,)].clone(),
    },
)

# 2: cumulative sum


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

# 3: Euclidean norm


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

# 4: reverse mode

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


# 5: dual numbers

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

# 6: logsumexp


def single(*values: float) -> Tensor:
    """Return a float32 vector."""
    return torch.tensor(values, dtype=torch.float32)


LOGSUMEXP = Exercise(
    file="ex6_logsumexp",
    function="logsumexp",
    reference=lambda z: torch.logsumexp(z.double(), 0).to(z.dtype),
    tolerance=1e-6,
    cases=(
        Case({"z": single(0)}, "the logarithm of one exponential is the number itself"),
        Case({"z": single(0, 0)}, "two equal numbers: log 2 is added"),
        Case({"z": single(1000, 0)}, "e^1000 overflows"),
        Case({"z": single(-1000, -1000)}, "e^-1000 is rounded to 0, and log 0 is minus infinity"),
        Case({"z": single(-1000, 1000)}, "numbers far apart"),
        Case({"z": single(*range(60, 100))}, "with the mean subtracted, some exponents are still large"),
        Case({"z": single(-200, -100, -50, 400)}, "e^300 overflows: the mean is not large enough to be subtracted"),
    ),
    sample=lambda generator, size: {"z": integers(generator, size, low=-200, high=200).float()},
    hint="For every number m, logsumexp(z) = m + logsumexp(z - m). Which m makes the largest exponent 0?",
    mistakes={
        "e^z overflows or is rounded to 0: subtract a number from z first": lambda z: z.exp().sum().log(),
        "the subtracted maximum must be added again": lambda z: (z - z.max()).exp().sum().log(),
        "after subtracting the mean the largest exponent can still be large": lambda z: (
            z.mean() + (z - z.mean()).exp().sum().log()
        ),
        "the maximum is only an approximation": lambda z: z.max(),
    },
)

# 7: variance

VARIANCE = Exercise(
    file="ex7_variance",
    function="variance",
    reference=lambda x: x.double().var(correction=0).float(),
    tolerance=1e-3,
    cases=(
        Case({"x": single(1, 2, 3)}, "small numbers"),
        Case({"x": single(10_000, 10_001, 10_002)}, "the same numbers plus 9,999 have the same variance"),
        Case({"x": single(20_003, 20_003, 20_003)}, "equal numbers have the variance 0"),
        Case({"x": single(-30_001, -30_000, -29_999)}, "negative numbers"),
    ),
    sample=lambda generator, size: {"x": integers(generator, size + 1).float() + 10_000 * generator.randint(-2, 2)},
    sample_note="numbers with a large mean and a small variance",
    hint="Which numbers cancel in mean(x^2) - mean(x)^2? The variance does not change if the same number is subtracted "
    "from every element: subtract one before squaring.",
    mistakes={
        "the two large means cancel: their leading digits agree, and float32 has only seven": lambda x: (
            (x * x).mean() - x.mean() ** 2
        ),
        "divide by N, not by N - 1": lambda x: (x - x.mean()).square().sum() / (len(x) - 1),
        "this is the standard deviation, the root of the variance": lambda x: (x - x.mean()).square().mean().sqrt(),
    },
)

# 8: simplify


def rewrite_top(expression: Any) -> tuple[Any, bool]:
    """Apply a rule to an expression, but not to its operands; tell whether there was one."""
    if not isinstance(expression, tuple):
        return expression, False
    operator, left, right = expression
    if isinstance(left, int) and isinstance(right, int):
        return (left + right if operator == "+" else left * right), True
    for one, other in ((left, right), (right, left)):
        if operator == "*" and one == 0:
            return 0, True
        if one == (0 if operator == "+" else 1):
            return other, True
    return expression, False


def rewrite_once(expression: Any) -> tuple[Any, bool]:
    """Apply one rule at the first place where one applies; tell whether there was one."""
    simpler, found = rewrite_top(expression)
    for place in (1, 2) if isinstance(simpler, tuple) and not found else ():
        part, found = rewrite_once(simpler[place])
        if found:
            return (*simpler[:place], part, *simpler[place + 1 :]), True
    return simpler, found


def rewrite_to_the_end(expression: Any) -> Any:
    """Apply one rule after the other until none applies."""
    found = True
    while found:
        expression, found = rewrite_once(expression)
    return expression


def simplify_from_the_top(expression: Any) -> Any:
    """Typical mistake: apply the rules to an expression before its operands are simplified."""
    simpler, found = rewrite_top(expression)
    if found:
        return simplify_from_the_top(simpler)
    if not isinstance(simpler, tuple):
        return simpler
    return (simpler[0], *map(simplify_from_the_top, simpler[1:]))


def simplify_without_operands(expression: Any) -> Any:
    """Typical mistake: apply the rules to the whole expression only."""
    return rewrite_top(expression)[0]


def sample_expression(generator: Random, size: int) -> Arguments:
    """Random expression of at most `size` levels."""

    def draw(levels: int) -> Any:
        if levels == 0 or generator.random() < 0.2:
            return generator.choice([0, 1, 1, 2, "x", "y"])
        return (generator.choice("+*"), draw(levels - 1), draw(levels - 1))

    return {"expression": draw(min(size, 4))}


SIMPLIFY = Exercise(
    file="ex8_simplify",
    function="simplify",
    reference=rewrite_to_the_end,
    cases=(
        Case({"expression": "x"}, "an input stays as it is"),
        Case({"expression": ("+", "x", "y")}, "no rule applies"),
        Case({"expression": ("+", 1, 2)}, "constant folding"),
        Case({"expression": ("*", 2, 3)}, "constant folding"),
        Case({"expression": ("+", "x", 0)}, "neutral element of addition"),
        Case({"expression": ("+", 0, "x")}, "neutral element of addition, on the left"),
        Case({"expression": ("*", "x", 1)}, "neutral element of multiplication"),
        Case({"expression": ("*", 0, "x")}, "a product with 0 is 0"),
        Case({"expression": ("+", "x", 1)}, "1 is not neutral in a sum"),
        Case({"expression": ("+", ("*", 1, "x"), "y")}, "a rule applies to an operand"),
        Case({"expression": ("+", ("*", 0, "x"), "y")}, "after the operand is 0, a rule applies to the sum"),
        Case({"expression": ("*", ("+", 1, 1), ("+", ("*", "x", 0), 3))}, "constants appear step by step"),
    ),
    sample=sample_expression,
    hint="Simplify the left and the right operand first, by calling `simplify` itself. Then look at the rules once.",
    mistakes={
        "simplify the operands first: a rule may apply to an expression only after they changed": simplify_from_the_top,
        "the rules apply to every part of the expression, so `simplify` must call itself": simplify_without_operands,
        "0 times an expression is 0, not the expression": lambda expression: product_with_zero(expression),
    },
)


def product_with_zero(expression: Any) -> Any:
    """Typical mistake: treat 0 as the neutral element of the product."""
    if not isinstance(expression, tuple):
        return expression
    operator, left, right = expression[0], product_with_zero(expression[1]), product_with_zero(expression[2])
    if isinstance(left, int) and isinstance(right, int):
        return left + right if operator == "+" else left * right
    for one, other in ((left, right), (right, left)):
        if one == 0 or (operator == "*" and one == 1):
            return other
    return (operator, left, right)


EXERCISES = (*(BROADCASTING, CUMULATIVE_SUM, NORM, REVERSE_MODE, DUAL_NUMBERS, LOGSUMEXP, VARIANCE, SIMPLIFY),)
"""Exercises of the chapter in order."""
