"""Solution: simplify the operands first.

A rule can apply to an expression only after its operands were simplified: 0 * x + y becomes 0 + y, then y. With
simplified operands one look at each expression is enough. `simplify` in `simplify.py` works in the same order.
"""

from typing import Any

Expression = Any
"""A number (int), an input (str), or (operator, left, right)."""


def simplify(expression: Expression) -> Expression:
    """Return the expression to which no rule applies."""
    if not isinstance(expression, tuple):
        return expression
    operator, left, right = expression[0], simplify(expression[1]), simplify(expression[2])
    if isinstance(left, int) and isinstance(right, int):
        return left + right if operator == "+" else left * right
    if operator == "*" and 0 in (left, right):
        return 0
    neutral = 0 if operator == "+" else 1
    if left == neutral:
        return right
    return left if right == neutral else (operator, left, right)
