"""Quantise numbers to 8 bits (15 minutes)

A number x is stored as a whole number q from 0 to 255, with a scale s and a zero point z that all numbers share:

    x = s (q - z) approximately,    q = round(x / s) + z, limited to 0 ... 255.

The range [low, high] of the numbers must contain 0, so that 0 is exact (padding, ReLU): if all numbers are positive,
low is 0; if all are negative, high is 0. Then

    s = (high - low) / 255,    z = round(-low / s).

If all numbers are 0, the scale is 1. Return s, z and the list of all q.

Check: python -m ch10_deploy.exercises 2
"""


def quantise(x: list[float]) -> tuple[float, int, list[int]]:
    """Numbers, at least one -> scale, zero point, quantised numbers"""
    raise NotImplementedError
