"""Ten shapes with random positions, sizes, angles and colours: an image set that needs no download.

Each shape is the region where an implicit function of the plane is negative; edges are smoothed over one pixel. A
single pixel contains no information about the class, so a linear classifier fails and a convolutional network does not.

Dimensions: N images, H = W = 32, K = 10 shapes.
"""

import math

import torch
from torch import Tensor

from common.data.images.cifar import encode_cifar
from common.data.images.image_set import Split

SIZE = 32
COUNT = 13_000
SEED = 20_261_120


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.9


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.72).abs() - 0.2


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.75


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs() * math.cos(math.pi / 6) + y / 2, -y) - 0.5


def _star(x: Tensor, y: Tensor) -> Tensor:
    # Fold the angle into one of the five arms; its edge is the line from tip (radius 1) to notch (radius .4).
    arm = math.pi / 5
    fold = (torch.remainder(torch.atan2(x, y) + arm, 2 * arm) - arm).abs()
    radius = torch.hypot(x, y)
    u, v = radius * torch.cos(fold), radius * torch.sin(fold)
    notch_u, notch_v = 0.4 * math.cos(arm), 0.4 * math.sin(arm)
    length = math.hypot(1 - notch_u, notch_v)
    return ((u - 1) * notch_v + v * (1 - notch_u)) / length


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x.abs() - 0.9, y.abs() - 0.28), torch.maximum(y.abs() - 0.9, x.abs() - 0.28))


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 0.95, 0.75 - torch.hypot(x - 0.45, y))


def _bars(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs() - 0.9, (y.abs() - 0.5).abs() - 0.2)


def _arrow(x: Tensor, y: Tensor) -> Tensor:
    head = torch.maximum(x.abs() * 0.8 + (y - 0.95) * 0.6, -y)
    shaft = torch.maximum(x.abs() - 0.2, torch.maximum(y, -y - 0.95))
    return torch.minimum(head, shaft)


def _corner(x: Tensor, y: Tensor) -> Tensor:
    upright = torch.maximum((x + 0.6).abs() - 0.25, y.abs() - 0.85)
    foot = torch.maximum(x.abs() - 0.85, (y + 0.6).abs() - 0.25)
    return torch.minimum(upright, foot)


SHAPES = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "bars": _bars,
    "arrow": _arrow,
    "corner": _corner,
}
NAMES = tuple(SHAPES)


def draw_shapes(count: int, generator: torch.Generator) -> Split:
    """Draw (count, 3, 32, 32) shapes on a noisy background, cycling through the classes."""
    labels = torch.arange(count) % len(SHAPES)
    radius = 7 + 5 * torch.rand(count, 1, 1, generator=generator)
    angle = 2 * math.pi * torch.rand(count, 1, 1, generator=generator)
    room = (SIZE / 2 - radius).clamp(min=0)
    x0, y0 = (SIZE / 2 + room * (2 * torch.rand(count, 1, 1, generator=generator) - 1) for _ in range(2))
    axis = torch.arange(SIZE) + 0.5
    dx, dy = axis.view(1, 1, SIZE) - x0, axis.view(1, SIZE, 1) - y0
    x = (dx * angle.cos() + dy * angle.sin()) / radius
    y = (dy * angle.cos() - dx * angle.sin()) / radius
    distance = torch.empty(count, SIZE, SIZE)
    for label, shape in enumerate(SHAPES.values()):
        distance[labels == label] = shape(x[labels == label], y[labels == label])
    cover = (0.5 - distance * radius).clamp(0, 1).unsqueeze(1)  # (N, 1, H, W): fraction of a pixel inside the shape
    ground = torch.rand(count, 3, 1, 1, generator=generator)
    turn = 0.35 + 0.3 * torch.rand(count, 3, 1, 1, generator=generator)
    paint = torch.remainder(ground + turn, 1)  # each channel differs from the background by at least 0.35
    noise = 0.08 * torch.randn(count, 3, SIZE, SIZE, generator=generator)
    pixels = (torch.lerp(ground, paint, cover) + noise).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Split(pixels, labels)


def draw_cifar_bytes() -> bytes:
    """Draw the whole set, the same on every machine, in CIFAR-10's binary layout."""
    return encode_cifar(draw_shapes(COUNT, torch.Generator().manual_seed(SEED)))
