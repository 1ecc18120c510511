"""Solution: the tangent of the quotient contains the quotient.

From q b = a and the rule of the product, q' b + q b' = a'. So q' = (a' - q b') / b. The rule of reverse mode in
`gradient.py` has the same two terms: g / b and -g q / b.
"""

Dual = tuple[float, float]
"""Value and tangent."""


def divide(a: Dual, b: Dual) -> Dual:
    """Return the value and the tangent of a / b."""
    quotient = a[0] / b[0]
    return quotient, (a[1] - quotient * b[1]) / b[0]
