"""Validate the pixels of a request (15 minutes)

A client sends an image as JSON: a list of `size` rows, each a list of `size` pixels, each a whole number from 0 to 255.
Clients send anything. Return the first part that is not valid, as in the server's error message:

    "pixels"          if the image is not a list of `size` elements,
    "pixels[3]"       if row 3 is not a list of `size` elements,
    "pixels[3][4]"    if pixel 4 of row 3 is not a whole number from 0 to 255,
    ""                if the image is valid.

Rows are checked from first to last: all pixels of a row before the next row. Types are strict: 5.0 and true (in Python,
True) are not whole numbers.

Check: python -m ch10_deploy.exercises 4
"""

from typing import Any


def invalid_part(pixels: Any, size: int) -> str:
    """Value from JSON, size of the image -> first invalid part, or an empty text"""
    raise NotImplementedError
