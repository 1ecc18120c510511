"""Bilinear sampling (15 minutes)

A spatial transformer reads an image at positions between the pixels. The centre of the pixel in row r and column c has
the position x = c, y = r. At another position the value is the weighted mean of the four pixels around it; a pixel at
the distances dx and dy (both below 1) has the weight

    (1 - dx) (1 - dy).

Pixels outside the image are 0. Return the value at a position, which may be outside as well.

Check: python -m ch06_cnn.exercises 7
"""

from torch import Tensor


def sample(image: Tensor, x: float, y: float) -> float:
    """(H, W) image, position -> value"""
    raise NotImplementedError
