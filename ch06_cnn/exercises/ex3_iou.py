"""Intersection over union of two boxes (10 minutes)

A box is (left, top, right, bottom); its width is right - left. A detection is compared with a true box by

    IoU(a, b) = area of the intersection / area of the union.

It is 1 for equal boxes and 0 for boxes that do not overlap. Both boxes have an area above 0.

Check: python -m ch06_cnn.exercises 3
"""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    raise NotImplementedError
