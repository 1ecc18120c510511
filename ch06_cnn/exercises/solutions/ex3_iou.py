"""Solution: sides of the intersection that are not negative.

If the boxes are apart, right - left of the intersection is negative. Both sides can be negative, and then their product
is positive: clamp each side, not the area. The union counts the intersection once.
"""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    intersection = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return intersection / (areas - intersection)
