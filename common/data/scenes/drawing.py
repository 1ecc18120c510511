"""Draw scenes of one to eight shapes that occlude each other, on a textured ground, with boxes and masks.

An object's class is its shape. A pixel belongs to the last object that covers at least half of it. A box encloses the
visible pixels of an object exactly. Objects of which less than MINIMUM_VISIBLE of the pixels are visible have no box;
they remain in the masks.

Each object is drawn in a window of 32 × 32 pixels around its centre. The canvas has a margin, so that a window may
reach beyond the image.

Dimensions: N scenes, S = 64 image size, M = 8 places, C canvas size, D = 32 window size.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from common.data.scenes.painting import COLOURS, SHAPE_NAMES, edge_distance
from common.data.scenes.scene_set import NO_BOX, Scenes

SIZE = 64
"""Height and width of a scene, in pixels."""
MOST_OBJECTS = 8
RADII = (6.0, 14.0)
"""Range of the radius of an object, in pixels."""
MINIMUM_VISIBLE = 0.5
"""Minimum share of visible pixels of an object with a box."""
INSIDE = 0.5
"""Minimum distance of a centre to the border of the image, in radii."""
APART, TRIES = 0.35, 6
"""Minimum distance of two centres in sums of their radii, if one of that many random places has it."""
COLOUR_JITTER, NOISE = 0.1, 0.03
MARGIN = 16
"""Margin of the canvas, and half the size of the window of an object: an object of the largest radius fits."""
CHUNK = 500
"""Number of scenes that are drawn at once."""


def draw_scenes(count: int, generator: torch.Generator) -> Scenes:
    """Draw scenes with all random numbers from a generator."""
    sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
    return Scenes.join([_draw(size, generator) for size in sizes])


def _draw(count: int, generator: torch.Generator) -> Scenes:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    shapes = torch.randint(len(SHAPE_NAMES), (count, MOST_OBJECTS), generator=generator)
    colours = torch.randint(len(COLOURS), (count, MOST_OBJECTS), generator=generator)
    objects = torch.randint(1, MOST_OBJECTS + 1, (count, 1), generator=generator)
    shapes[torch.arange(MOST_OBJECTS) >= objects] = NO_BOX
    radii = RADII[0] + (RADII[1] - RADII[0]) * uniform(count, MOST_OBJECTS)
    centres = _place(radii, generator)

    canvas = F.pad(_ground(count, generator), [MARGIN] * 4).flatten(2)  # (N, 3, C * C)
    instances = torch.zeros(count, canvas.shape[2], dtype=torch.uint8)
    whole = torch.zeros(count, MOST_OBJECTS)  # pixels of each object, hidden or not
    paints = torch.tensor(list(COLOURS.values()))[colours]
    paints = (paints + COLOUR_JITTER * (2 * uniform(*paints.shape) - 1)).clamp(0, 1)
    angles = 2 * math.pi * uniform(count, MOST_OBJECTS)
    for place in range(MOST_OBJECTS):
        present = (shapes[:, place] != NO_BOX).nonzero().squeeze(1)
        index, right, down = _window(centres[present, place])
        radius, angle = (its[present, place].view(-1, 1, 1) for its in (radii, angles))
        distance = edge_distance(shapes[present, place], right, -down, angle, radius)
        cover = (0.5 - distance).clamp(0, 1).flatten(1)  # (N, D * D) share of each pixel inside the object
        over = ((3 * present[:, None] + torch.arange(3)) * canvas.shape[2]).unsqueeze(2) + index.unsqueeze(1)
        mixed = torch.lerp(canvas.take(over), paints[present, place].unsqueeze(2), cover.unsqueeze(1))
        canvas.put_(over, mixed)
        inside = cover >= 0.5
        index = (present[:, None] * instances.shape[1] + index)[inside]
        instances.put_(index, torch.full_like(index, place + 1, dtype=torch.uint8))
        whole[present, place] = inside.sum(1).float()

    pixels = _inner(canvas) + NOISE * torch.randn(count, 3, SIZE, SIZE, generator=generator)
    masks = _inner(instances)
    boxes, visible_pixels = enclosing_boxes(masks, MOST_OBJECTS)
    visible = visible_pixels / whole.clamp(min=1)
    labels = shapes.masked_fill(visible < MINIMUM_VISIBLE, NO_BOX)
    classes = F.pad(shapes + 1, (1, 0)).to(torch.uint8)  # the class of each value of the instance mask
    return Scenes(
        pixels=pixels.clamp(0, 1).mul(255).round().to(torch.uint8),
        boxes=boxes * (labels != NO_BOX).unsqueeze(2),
        labels=labels,
        class_masks=classes.gather(1, masks.flatten(1).long()).view_as(masks),
        instance_masks=masks,
        shapes=shapes,
        colours=colours,
        centres=centres,
        radii=radii,
        visible=visible,
    )


def _place(radii: Tensor, generator: torch.Generator) -> Tensor:
    """(N, M) radii -> (N, M, 2) centres: for each object the first of several random places away from the earlier ones

    If no place is far enough from all earlier objects, the last one is taken.
    """
    count, most = radii.shape
    centres = torch.zeros(count, most, 2)
    for place in range(most):
        low = INSIDE * radii[:, place].view(count, 1, 1)
        tries = low + (SIZE - 2 * low) * torch.rand(count, TRIES, 2, generator=generator)
        distances = (tries.unsqueeze(2) - centres[:, None, :place]).square().sum(3).sqrt()  # (N, TRIES, place)
        least = APART * (radii[:, place : place + 1] + radii[:, :place])
        good = (distances >= least.unsqueeze(1)).all(2)
        good[:, -1] = True
        first = good.to(torch.uint8).argmax(1)
        centres[:, place] = tries[torch.arange(count), first]
    return centres


def _ground(count: int, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) texture: a random colour, large and small patches, and stripes of random direction and width"""
    texture = 0.3 + 0.4 * torch.rand(count, 3, 1, 1, generator=generator)
    for cells, contrast in ((3, 0.3), (8, 0.2)):
        patches = torch.rand(count, 3, cells, cells, generator=generator) - 0.5
        texture = texture + contrast * F.interpolate(patches, (SIZE, SIZE), mode="bilinear", align_corners=True)
    angle, phase, period, contrast = torch.rand(4, count, 1, 1, 1, generator=generator)
    axis = torch.arange(SIZE, dtype=torch.float32)
    along = axis.view(1, 1, 1, SIZE) * (math.pi * angle).cos() + axis.view(1, 1, SIZE, 1) * (math.pi * angle).sin()
    stripes = (2 * math.pi * (along / (4 + 12 * period) + phase)).sin()
    return (texture + 0.12 * contrast * stripes).clamp(0, 1)


def _window(centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 2) centres -> (N, D * D) canvas index of each pixel of the windows, (N, 1, D) and (N, D, 1) distances"""
    size = SIZE + 2 * MARGIN
    first = centres.round().long()  # centre - MARGIN in the image is centre on the canvas
    axis = torch.arange(2 * MARGIN)
    columns, rows = first[:, 0, None] + axis, first[:, 1, None] + axis
    index = (rows.unsqueeze(2) * size + columns.unsqueeze(1)).flatten(1)
    right = columns - MARGIN + 0.5 - centres[:, 0, None]
    down = rows - MARGIN + 0.5 - centres[:, 1, None]
    return index, right.unsqueeze(1), down.unsqueeze(2)


def _inner(canvas: Tensor) -> Tensor:
    """(N, ..., C * C) canvas -> (N, ..., S, S) image without the margin"""
    size = SIZE + 2 * MARGIN
    return canvas.unflatten(-1, (size, size))[..., MARGIN:-MARGIN, MARGIN:-MARGIN].contiguous()


def enclosing_boxes(masks: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """(N, H, W) instance masks -> (N, M, 4) boxes around the pixels of the values 1 ... M, (N, M) number of pixels

    Values that do not occur have a box of zeros.
    """
    boxes, counts = [], []
    for value in range(1, most + 1):
        here = masks == value
        edges = []
        for axis in (1, 2):  # columns, then rows
            occupied = here.any(axis).to(torch.uint8)
            low, high = occupied.argmax(1), occupied.shape[1] - occupied.flip(1).argmax(1)
            edges += [(low, high)]
        (left, right), (top, bottom) = edges
        count = here.sum((1, 2))
        boxes.append(torch.stack([left, top, right, bottom], dim=1) * (count > 0).unsqueeze(1))
        counts.append(count)
    return torch.stack(boxes, dim=1).float(), torch.stack(counts, dim=1).float()
