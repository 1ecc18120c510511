"""Generated scenes: two objects with a size, a colour and a shape on a noisy grey background.

The splits differ in their combinations of colour and shape. Of the 48 combinations, 4 occur in the validation set only
and 4 in the held-out test set only. In the training set each colour occurs with 5 of the 6 shapes.

Dimensions: N scenes, S image size. Places and lengths are in pixels of an image of 32 × 32.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.data.scenes.painting import COLOURS, SHAPE_NAMES, edge_distance, shape_numbers

SIZE = 32
"""Height and width of a scene in its own unit; images of other sizes show the same."""
RADII = {"small": (4.2, 4.8), "large": (6.6, 7.4)}
"""Range of the radius of each size."""
CLEAR = 6.0
"""Minimum distance of two centres along an axis for captions to mention that axis."""
TILT = 0.1
"""Maximum rotation of an object, in radians."""
COLOUR_JITTER, NOISE = 0.08, 0.05
CHUNK = 1_000
"""Number of scenes that are rendered at once."""


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene."""

    size: str
    colour: str
    shape: str
    x: float
    """Centre, from the left."""
    y: float
    """Centre, from the top."""
    radius: float


Scene = tuple[SceneObject, SceneObject]
Combination = tuple[str, str]
"""A colour and a shape."""


def split_combinations() -> tuple[list[Combination], list[Combination], list[Combination]]:
    """Return the combinations of the training set, of the validation set and of the held-out test set."""
    diagonal = [(colour, SHAPE_NAMES[number % len(SHAPE_NAMES)]) for number, colour in enumerate(COLOURS)]
    every = [(colour, shape) for colour in COLOURS for shape in SHAPE_NAMES]
    return [each for each in every if each not in diagonal], diagonal[::2], diagonal[1::2]


def draw_scene(combinations: Sequence[Combination], rng: random.Random) -> Scene:
    """Draw a scene of two objects with different combinations that do not overlap."""
    kinds = rng.sample(combinations, 2)
    sizes = [rng.choice(list(RADII)) for _ in kinds]
    radii = [rng.uniform(*RADII[size]) for size in sizes]
    while True:
        (x0, y0), (x1, y1) = ([rng.uniform(radius, SIZE - radius) for _ in "xy"] for radius in radii)
        if math.hypot(x1 - x0, y1 - y0) > sum(radii) + 1 and max(abs(x1 - x0), abs(y1 - y0)) >= CLEAR:
            break
    return (
        SceneObject(sizes[0], *kinds[0], x0, y0, radii[0]),
        SceneObject(sizes[1], *kinds[1], x1, y1, radii[1]),
    )


def render(scenes: Sequence[Scene], generator: torch.Generator, size: int = SIZE) -> Tensor:
    """N scenes -> (N, 3, S, S) uint8 pixels"""
    starts = range(0, len(scenes), CHUNK)
    return torch.cat([_render(scenes[start : start + CHUNK], generator, size) for start in starts])


def _render(scenes: Sequence[Scene], generator: torch.Generator, size: int) -> Tensor:
    count = len(scenes)
    grey = 0.35 + 0.3 * torch.rand(count, 1, 1, 1, generator=generator)
    pixels = grey.expand(count, 3, size, size).clone()
    for place in range(2):
        objects = [scene[place] for scene in scenes]
        base = torch.tensor([COLOURS[each.colour] for each in objects]).view(count, 3, 1, 1)
        paint = base + COLOUR_JITTER * (2 * torch.rand(count, 3, 1, 1, generator=generator) - 1)
        angle = TILT * (2 * torch.rand(count, 1, 1, generator=generator) - 1)
        pixels = torch.lerp(pixels, paint, _cover(objects, angle, size).unsqueeze(1))
    noise = NOISE * torch.randn(count, 3, size, size, generator=generator)
    return (pixels + noise).clamp(0, 1).mul(255).round().to(torch.uint8)


def _cover(objects: Sequence[SceneObject], angle: Tensor, size: int) -> Tensor:
    """N objects, (N, 1, 1) angles -> (N, S, S) share of each pixel inside the object"""
    x0, y0, radius = (
        torch.tensor([getattr(each, name) for each in objects], dtype=torch.float32).view(-1, 1, 1)
        for name in ("x", "y", "radius")
    )
    axis = (torch.arange(size) + 0.5) * SIZE / size
    right, up = axis.view(1, 1, size) - x0, y0 - axis.view(1, size, 1)
    distance = edge_distance(shape_numbers([each.shape for each in objects]), right, up, angle, radius)
    return (0.5 - distance * size / SIZE).clamp(0, 1)
