"""Check of exercise 7: bilinear sampling."""

import math
from collections.abc import Callable
from random import Random

from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, matrix, vector
from common.exercises.exercise import Arguments, Case, Exercise


def sample_of_torch(image: Tensor, x: float, y: float) -> float:
    """Expected value by PyTorch's function, whose coordinates run from -1 to 1."""
    height, width = image.shape
    grid = vector((2 * x + 1) / width - 1, (2 * y + 1) / height - 1)[None, None, None]
    return F.grid_sample(image[None, None], grid, align_corners=False).item()


def wrong_sample(
    *, floor: Callable[[float], int] = math.floor, inside: str = "zero", swapped: bool = False, far: bool = False
) -> Callable[..., float]:
    """Make a wrong function."""

    def wrong(image: Tensor, x: float, y: float) -> float:
        if swapped:
            x, y = y, x
        height, width = image.shape
        left, top, value = floor(x), floor(y), 0.0
        for row in (top, top + 1):
            for column in (left, left + 1):
                dx, dy = abs(x - column), abs(y - row)
                weight = dx * dy if far else (1 - dx) * (1 - dy)
                if inside == "edge":
                    pixel = image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
                elif inside == "wrapped":
                    pixel = image[row % height, column % width]
                else:
                    pixel = image[row, column] if 0 <= row < height and 0 <= column < width else 0.0
                value += weight * float(pixel)
        return value

    return wrong


def nearest(image: Tensor, x: float, y: float) -> float:
    """Typical mistake: the nearest pixel."""
    row, column = round(y), round(x)
    return float(image[row, column]) if 0 <= row < image.shape[0] and 0 <= column < image.shape[1] else 0.0


def sample_position(generator: Random, size: int) -> Arguments:
    """Random image and a position in it or near it."""
    image = integers(generator, generator.randint(1, size), generator.randint(1, size))
    x, y = (generator.randint(-6, 4 * length + 2) / 4 for length in (image.shape[1], image.shape[0]))
    return {"image": image, "x": x, "y": y}


BILINEAR = Exercise(
    file="ex7_bilinear",
    function="sample",
    reference=sample_of_torch,
    cases=(
        Case({"image": matrix([5]), "x": 0.0, "y": 0.0}, "the centre of a pixel"),
        Case({"image": matrix([0, 4]), "x": 0.5, "y": 0.0}, "the middle between two pixels"),
        Case({"image": matrix([0, 4]), "x": 0.25, "y": 0.0}, "the nearer pixel has the larger weight"),
        Case({"image": matrix([0], [4]), "x": 0.0, "y": 0.75}, "y runs through the rows"),
        Case({"image": matrix([0, 0], [0, 4]), "x": 0.5, "y": 0.5}, "the middle of four pixels"),
        Case({"image": matrix([2, 4]), "x": -0.5, "y": 0.0}, "half of the first pixel; left of it is 0"),
        Case({"image": matrix([2, 4]), "x": 1.5, "y": 0.0}, "half of the last pixel; right of it is 0"),
        Case({"image": matrix([2, 4]), "x": 5.0, "y": 0.0}, "far outside"),
    ),
    sample=sample_position,
    sample_note="positions inside, at the border and outside",
    hint=(
        "`math.floor` gives the column on the left, also for negative x. Add up weight times value of the four pixels, "
        "and leave out those whose row or column is outside."
    ),
    mistakes={
        "this is the nearest pixel; its gradient with respect to the position is 0": nearest,
        "x runs through the columns, y through the rows: image[y, x]": wrong_sample(swapped=True),
        "`int` rounds towards 0; for negative positions the pixel on the left needs `math.floor`": wrong_sample(
            floor=int
        ),
        "pixels outside the image are 0; the border is not repeated": wrong_sample(inside="edge"),
        "a negative index reads the last row or column in Python: leave it out": wrong_sample(inside="wrapped"),
        "a near pixel has a large weight: (1 - dx) (1 - dy), not dx dy": wrong_sample(far=True),
    },
)
