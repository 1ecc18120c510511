"""Forward mode: divide dual numbers (10 minutes)

Forward-mode differentiation replaces each number by a dual number (value, tangent); the tangent is the derivative with
respect to one input t. Its rules follow from the chain rule as those of reverse mode do:

    product  (a, a') (b, b') = (a b, a' b + a b')
    sum      (a, a') + (b, b') = (a + b, a' + b').

Write the rule of the quotient a / b. An operand that does not depend on t has the tangent 0.

Check: python -m ch01_graphs.exercises 5
"""

Dual = tuple[float, float]
"""Value and tangent."""


def divide(a: Dual, b: Dual) -> Dual:
    """Return the value and the tangent of a / b."""
    raise NotImplementedError
