"""Exercises of chapter 1: three typical wrong answers each, and what the reader is told."""

import pytest
import torch

from ch01_graphs.exercises import checks
from ch01_graphs.exercises.checks.ex8_simplify import rewrite_top
from common.exercises.check import check


def leading_only(g, shape):
    return g.sum(tuple(range(g.ndim - len(shape)))) if g.ndim > len(shape) else g


def without_keepdim(g, shape):
    g = leading_only(g, shape)
    return g.sum([dim for dim, size in enumerate(shape) if size == 1]) if 1 in shape else g


def by_mean(g, shape):
    while g.ndim > len(shape):
        g = g.mean(0)
    for dim, size in enumerate(shape):
        g = g.mean(dim, keepdim=True) if size == 1 else g
    return g


def overwriting(tape):
    derivatives = [0.0] * len(tape)
    derivatives[-1] = 1.0
    for node in range(len(tape) - 1, -1, -1):
        for operand, slope in tape[node]:
            derivatives[operand] = derivatives[node] * slope
    return derivatives


def from_first_to_last(tape):
    derivatives = [0.0] * len(tape)
    derivatives[-1] = 1.0
    for node in range(len(tape)):
        for operand, slope in tape[node]:
            derivatives[operand] += derivatives[node] * slope
    return derivatives


def recursive(tape):
    derivatives = [0.0] * len(tape)

    def visit(node, derivative):
        derivatives[node] += derivative
        for operand, slope in tape[node]:
            visit(operand, derivative * slope)

    visit(len(tape) - 1, 1.0)
    return derivatives


def simplify_top_only(expression):
    return rewrite_top(expression)[0]


def no_folding(expression):
    if not isinstance(expression, tuple):
        return expression
    operator, left, right = expression[0], no_folding(expression[1]), no_folding(expression[2])
    if operator == "*" and 0 in (left, right):
        return 0
    neutral = 0 if operator == "+" else 1
    return right if left == neutral else left if right == neutral else (operator, left, right)


def right_operand_only(expression):
    if not isinstance(expression, tuple):
        return expression
    operator, left, right = expression[0], right_operand_only(expression[1]), right_operand_only(expression[2])
    if isinstance(left, int) and isinstance(right, int):
        return left + right if operator == "+" else left * right
    if operator == "*" and right == 0:
        return 0
    return left if right == (0 if operator == "+" else 1) else (operator, left, right)


WRONG = [
    (checks.BROADCASTING, leading_only, "for g = [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], shape = (2, 1) you return a"),
    (
        checks.BROADCASTING,
        without_keepdim,
        "a tensor of shape (2,) and dtype float64, expected a tensor of shape (2, 1)",
    ),
    (checks.BROADCASTING, by_mean, "you average over the broadcast dimensions"),
    (checks.CUMULATIVE_SUM, lambda g: g.cumsum(0), "for g = [0.0, 1.0] you return [0.0, 1.0], expected [1.0, 1.0]"),
    (checks.CUMULATIVE_SUM, lambda g: g, "y_2 = x_1 + x_2: both operands get g_2"),
    (checks.CUMULATIVE_SUM, lambda g: g.sum().expand(len(g)), "y_i does not depend on the x_j with j > i"),
    (checks.NORM, lambda g, y, x: g * x / y, "y = 0.0, x = [0.0, 0.0] you return [nan, nan], expected [0.0, 0.0]"),
    (checks.NORM, lambda g, y, x: g * 2 * x, "the derivative of the square root is missing"),
    (checks.NORM, lambda g, y, x: x / y.clamp_min(1e-30), "g is missing"),
    (checks.REVERSE_MODE, overwriting, "you return [3.0, 1.0], expected [6.0, 1.0]"),
    (checks.REVERSE_MODE, from_first_to_last, "you return [0.0, 3.0, 1.0], expected [6.0, 3.0, 1.0]"),
    (checks.REVERSE_MODE, recursive, "there are 2^60 paths, so visit nodes, not paths"),
    (checks.DUAL_NUMBERS, lambda a, b: (a[0] / b[0], a[1] / b[0]), "the contribution of the divisor is missing"),
    (checks.DUAL_NUMBERS, lambda a, b: a[0] / b[0], "you return a float, expected a tuple of 2 elements"),
    (
        checks.DUAL_NUMBERS,
        lambda a, b: (a[0] / b[0], (a[1] * b[0] - a[0] * b[1]) / b[0]),
        "for the tangent you return 1.0, expected 0.5",
    ),
    (checks.LOGSUMEXP, lambda z: z.exp().sum().log(), "for z = [1000.0, 0.0] you return inf, expected 1000.0"),
    (checks.LOGSUMEXP, lambda z: (z - z.max()).exp().sum().log(), "the subtracted maximum must be added again"),
    (checks.LOGSUMEXP, lambda z: z.mean() + (z - z.mean()).exp().sum().log(), "after subtracting the mean the largest"),
    (checks.VARIANCE, lambda x: (x * x).mean() - x.mean() ** 2, "for x = [10000.0, 10001.0, 10002.0] you return"),
    (checks.VARIANCE, lambda x: x.var(), "divide by N, not by N - 1"),
    (checks.VARIANCE, lambda x: (x.double() - x.double().mean()).square().mean(), "dtype float64, expected"),
    (checks.SIMPLIFY, simplify_top_only, "`simplify` must call itself"),
    (checks.SIMPLIFY, no_folding, "for expression = ('+', 1, 2) you return ('+', 1, 2), expected 3"),
    (checks.SIMPLIFY, right_operand_only, "for expression = ('+', 0, 'x') you return ('+', 0, 'x'), expected 'x'"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part, monkeypatch):
    if wrong is recursive:
        monkeypatch.setattr("common.exercises.check.SECONDS", 0.5)
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"


def test_the_variance_problem_is_well_conditioned_and_float32_is_enough():
    x = torch.tensor([10_000.0, 10_001.0, 10_002.0])
    assert float((x - x.mean()).square().mean()) == pytest.approx(2 / 3)
    assert checks.VARIANCE.reference(x).dtype == torch.float32
