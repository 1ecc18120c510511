"""Solution: four neighbours, of which only those inside count.

`math.floor` finds the left column also for negative positions, where `int` rounds towards 0. A negative index must not
reach the image: Python would read its last row or column.
"""

import math

from torch import Tensor


def sample(image: Tensor, x: float, y: float) -> float:
    """(H, W) image, position -> value"""
    height, width = image.shape
    left, top, value = math.floor(x), math.floor(y), 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                value += float(image[row, column]) * (1 - abs(x - column)) * (1 - abs(y - row))
    return value
