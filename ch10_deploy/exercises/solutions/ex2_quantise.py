"""Solution: a range that contains 0.

256 numbers have 255 steps between them. Because 0 is in the range, z is one of the 256 numbers, and x = 0 is stored as
q = z without an error. Each other number has an error of about half a step at most.
"""


def quantise(x: list[float]) -> tuple[float, int, list[int]]:
    """Numbers, at least one -> scale, zero point, quantised numbers"""
    low, high = min(0.0, *x), max(0.0, *x)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    return scale, zero, [min(255, max(0, round(value / scale) + zero)) for value in x]
