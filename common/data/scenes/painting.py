"""Colours and shapes of the objects of generated scenes.

Dimensions: N objects, H, W height and width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.data.images.shapes import SHAPES

COLOURS = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.60, 0.15),
    "blue": (0.10, 0.20, 0.85),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.55, 0.10, 0.65),
    "cyan": (0.15, 0.80, 0.90),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.04),
}
SHAPE_NAMES = ("disc", "square", "triangle", "cross", "ring", "star")


def edge_distance(shapes: Tensor, right: Tensor, up: Tensor, angle: Tensor, radius: Tensor) -> Tensor:
    """Compute the distance of each pixel to the edge of an object, negative inside: (N, H, W).

    `shapes` (N,) are places in SHAPE_NAMES; `right` (N, 1, W) and `up` (N, H, 1) are the distances from the centre of
    the object, `angle` and `radius` are (N, 1, 1). The distance has the unit of the radius.
    """
    x = (right * angle.cos() + up * angle.sin()) / radius
    y = (up * angle.cos() - right * angle.sin()) / radius
    distance = torch.empty_like(x)
    for number, name in enumerate(SHAPE_NAMES):
        chosen = shapes == number
        distance[chosen] = SHAPES[name](x[chosen], y[chosen])
    return distance * radius


def shape_numbers(names: Sequence[str]) -> Tensor:
    """Names of N shapes -> (N,) places in SHAPE_NAMES"""
    return torch.tensor([SHAPE_NAMES.index(name) for name in names], dtype=torch.int64)
