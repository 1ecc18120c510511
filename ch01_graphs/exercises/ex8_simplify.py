"""Simplify an expression (20 minutes)

An expression is a number, the name of an input such as "x", or a tuple (operator, left, right) with the operator "+" or
"*". For example, ("+", ("*", 1, "x"), 0) is 1 x + 0. Apply these rules until none applies to any part:

    constant folding    two numbers      -> their sum or product
    neutral elements    e + 0, 0 + e     -> e
                        e * 1, 1 * e     -> e
    zero                e * 0, 0 * e     -> 0

Do not reorder operands: "x" + "y" stays as it is. The result above is "x".

Check: python -m ch01_graphs.exercises 8
"""

from typing import Any

Expression = Any
"""A number (int), an input (str), or (operator, left, right)."""


def simplify(expression: Expression) -> Expression:
    """Return the expression to which no rule applies."""
    raise NotImplementedError
