"""Check of exercise 3: intersection over union of two boxes."""

from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Box = tuple[float, float, float, float]


def cells(box: Box) -> set[tuple[int, int]]:
    """Return the unit squares that a box with integer sides contains."""
    left, top, right, bottom = map(int, box)
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


def iou_by_cells(a: Box, b: Box) -> float:
    """Expected quotient: count unit squares."""
    return len(cells(a) & cells(b)) / len(cells(a) | cells(b))


def parts(a: Box, b: Box, *, clamped: bool = True, pixel: float = 0.0) -> tuple[float, float, float]:
    """Areas of the intersection and of both boxes, with options for typical mistakes."""
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + pixel for i in range(2))
    if clamped:
        width, height = max(0.0, width), max(0.0, height)
    one, other = ((box[2] - box[0] + pixel) * (box[3] - box[1] + pixel) for box in (a, b))
    return width * height, one, other


def without_clamp(a: Box, b: Box) -> float:
    """Typical mistake: sides of the intersection below 0."""
    common, one, other = parts(a, b, clamped=False)
    return common / (one + other - common)


def counted_twice(a: Box, b: Box) -> float:
    """Typical mistake: the sum of the areas as the union."""
    common, one, other = parts(a, b)
    return common / (one + other)


def by_smaller_box(a: Box, b: Box) -> float:
    """Typical mistake: divide by the smaller area."""
    common, one, other = parts(a, b)
    return common / min(one, other)


def with_extra_pixel(a: Box, b: Box) -> float:
    """Typical mistake: sides of right - left + 1."""
    common, one, other = parts(a, b, pixel=1.0)
    return common / (one + other - common)


def sample_boxes(generator: Random, size: int) -> Arguments:
    """Two random boxes with integer sides."""

    def box() -> Box:
        left, top = generator.randint(0, size), generator.randint(0, size)
        return (float(left), float(top), float(left + generator.randint(1, 3)), float(top + generator.randint(1, 3)))

    return {"a": box(), "b": box()}


IOU = Exercise(
    file="ex3_iou",
    function="iou",
    reference=iou_by_cells,
    cases=(
        Case({"a": (0.0, 0.0, 1.0, 1.0), "b": (0.0, 0.0, 1.0, 1.0)}, "equal boxes"),
        Case({"a": (0.0, 0.0, 2.0, 1.0), "b": (0.0, 0.0, 1.0, 1.0)}, "one half of the first box"),
        Case({"a": (0.0, 0.0, 2.0, 1.0), "b": (1.0, 0.0, 3.0, 1.0)}, "one of three squares"),
        Case({"a": (0.0, 0.0, 1.0, 1.0), "b": (1.0, 0.0, 2.0, 1.0)}, "boxes that only touch"),
        Case({"a": (0.0, 0.0, 1.0, 1.0), "b": (2.0, 0.0, 3.0, 1.0)}, "boxes side by side"),
        Case({"a": (0.0, 0.0, 1.0, 1.0), "b": (2.0, 2.0, 3.0, 3.0)}, "boxes that are apart in both directions"),
        Case({"a": (0.0, 0.0, 3.0, 3.0), "b": (1.0, 1.0, 2.0, 2.0)}, "one box inside the other"),
    ),
    sample=sample_boxes,
    hint=(
        "The intersection is a box as well: its left side is the larger of both left sides, its right side the smaller "
        "of both right sides. What if right < left?"
    ),
    mistakes={
        "boxes that are apart have no intersection: clamp its width and its height to 0": without_clamp,
        "the sum of the areas contains the intersection twice": counted_twice,
        "divide by the area of the union, not by that of the smaller box": by_smaller_box,
        "sides are coordinates, not numbers of pixels: the width is right - left": with_extra_pixel,
    },
)
