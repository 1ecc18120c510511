"""Check of exercise 4: validate the pixels of a request."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from common.exercises.exercise import Arguments, Case, Exercise

TEXTS = {str(value) for value in range(256)}
"""JSON texts of all valid pixels."""


def invalid_by_text(pixels: Any, size: int) -> str:
    """Expected part: compare the JSON texts of the pixels with those of the numbers from 0 to 255."""
    if type(pixels) is not list or len(pixels) != size:
        return "pixels"
    for r, row in enumerate(pixels):
        if type(row) is not list or len(row) != size:
            return f"pixels[{r}]"
        bad = [c for c, pixel in enumerate(row) if json.dumps(pixel) not in TEXTS]
        if bad:
            return f"pixels[{r}][{bad[0]}]"
    return ""


def wrong_validator(
    valid: Callable[[Any], bool] = lambda pixel: json.dumps(pixel) in TEXTS,
    *,
    rows: bool = True,
    sizes: bool = True,
    rows_first: bool = False,
    from_one: int = 0,
) -> Callable[[Any, int], str]:
    """Make a wrong function."""

    def wrong(pixels: Any, size: int) -> str:
        if type(pixels) is not list or (sizes and len(pixels) != size):
            return "pixels"
        bad_rows = [type(row) is not list or (rows and sizes and len(row) != size) for row in pixels]
        if rows_first and any(bad_rows):
            return f"pixels[{bad_rows.index(True)}]"
        for r, row in enumerate(pixels):
            if bad_rows[r]:
                return f"pixels[{r + from_one}]"
            for c, pixel in enumerate(row):
                if not valid(pixel):
                    return f"pixels[{r + from_one}][{c + from_one}]"
        return ""

    return wrong


def image(*rows: Any) -> Arguments:
    """Arguments with an image of 1x1 or 2x2 pixels."""
    return {"pixels": list(rows), "size": max(1, min(2, len(rows)))}


def sample_image(generator: Random, size: int) -> Arguments:
    """Random image with at most two invalid parts."""
    size = min(size, 3)
    pixels: list[Any] = [[generator.choice([0, 7, 255]) for _ in range(size)] for _ in range(size)]
    for _ in range(generator.randint(0, 2)):
        r, c = generator.randrange(size), generator.randrange(size)
        if type(pixels[r]) is list and c < len(pixels[r]):
            pixels[r][c] = generator.choice([-1, 256, 5.0, True, "5", None])
        if generator.random() < 0.2:
            pixels[r] = generator.choice([[], None, [1] * (size + 1)])
    return {"pixels": pixels, "size": size}


VALIDATION = Exercise(
    file="ex4_validation",
    function="invalid_part",
    reference=invalid_by_text,
    cases=(
        Case(image([5]), "a valid image"),
        Case(image([255]), "255 is the largest pixel"),
        Case(image([256]), "256 is too large"),
        Case(image([-1]), "-1 is too small"),
        Case(image(["5"]), "a text is not a number"),
        Case(image([5.0]), "5.0 is not a whole number"),
        Case(image([True]), "True is not a number, although isinstance(True, int)"),
        Case(image([None]), "null is not a number"),
        Case({"pixels": None, "size": 1}, "null is not a list"),
        Case({"pixels": [[1]], "size": 2}, "a row is missing"),
        Case(image([1, 2], [3]), "row 1 has one pixel"),
        Case(image([1, 2], 3), "row 1 is not a list"),
        Case(image([1, 300], [3]), "pixel 1 of row 0 comes before row 1"),
        Case(image([1, 2], [3, 300]), "the last pixel"),
    ),
    sample=sample_image,
    hint="Test types before numbers. `type(pixel) is int` is true for 5, and false for 5.0, True and '5'.",
    mistakes={
        "True is an instance of int, but not a pixel: test `type(pixel) is int`": wrong_validator(
            lambda pixel: isinstance(pixel, int) and 0 <= pixel <= 255
        ),
        "5.0 is equal to 5, but not a whole number: test the type": wrong_validator(
            lambda pixel: type(pixel) in (int, float) and pixel in range(256)
        ),
        "255 is a valid pixel": wrong_validator(lambda pixel: json.dumps(pixel) in TEXTS - {"255"}),
        "the number of rows and of pixels in each row must be tested": wrong_validator(sizes=False),
        "the number of pixels in each row must be tested": wrong_validator(rows=False),
        "all pixels of a row are checked before the next row": wrong_validator(rows_first=True),
        "rows and pixels are counted from 0": wrong_validator(from_one=1),
    },
)
