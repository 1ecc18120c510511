"""Solution: exact types, from the outside to the inside.

`isinstance(True, int)` is true in Python, because bool is a subclass of int; `type(pixel) is int` is not. The type is
tested before the comparison, which could raise an error for a text or be true for 5.0.
"""

from typing import Any


def invalid_part(pixels: Any, size: int) -> str:
    """Value from JSON, size of the image -> first invalid part, or an empty text"""
    if not isinstance(pixels, list) or len(pixels) != size:
        return "pixels"
    for r, row in enumerate(pixels):
        if not isinstance(row, list) or len(row) != size:
            return f"pixels[{r}]"
        for c, pixel in enumerate(row):
            if type(pixel) is not int or not 0 <= pixel <= 255:
                return f"pixels[{r}][{c}]"
    return ""
