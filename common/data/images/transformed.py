"""Transformed digits: rotated, scaled and moved, among distractors, or several in one image.

The images are drawn from digits of 28x28 pixels, MNIST's or the embedded ones. Distractors are pieces of other digits
at random places. The label is the class of the digit, or the classes of the digits from left to right.

Dimensions: N images, K digits of an image, P pieces of an image, S size of the image.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from common.data.images.image_set import Split

DIGIT = 28
"""Height and width of a digit."""
CHUNK = 1_000
"""Number of images drawn at once; the digits and pieces of an image come from the same chunk."""


@dataclass(frozen=True)
class Transformation:
    """How the digits of an image are transformed, and what else it shows."""

    size: int
    """Height and width of the image."""
    angle: float = 0.0
    """Largest rotation in degrees, in both directions."""
    scales: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest scale."""
    moved: bool = True
    """Whether the digit is at a random place, inside the image, or at the centre."""
    digits: int = 1
    """Number of digits, side by side."""
    slope: int = 0
    """Largest difference in height of two neighbouring digits, in pixels."""
    pieces: int = 0
    """Number of distractors."""
    piece_size: int = 0
    """Height and width of a distractor."""

    @property
    def warps(self) -> bool:
        """Whether digits are rotated or scaled."""
        return self.angle > 0 or self.scales != (1.0, 1.0)


TRANSFORMATIONS = {
    "rotated": Transformation(42, angle=90, moved=False),
    "moved": Transformation(42, angle=45, scales=(0.7, 1.2)),
    "cluttered": Transformation(60, pieces=16, piece_size=6),
    "sequence": Transformation(100, digits=3, slope=14, pieces=8, piece_size=9),
}
"""Angles, scales and distractors of Jaderberg et al. (2015; the first three) and Sønderby et al. (2015)."""


def draw(digits: Split, transformation: Transformation, generator: torch.Generator) -> Split:
    """Draw one image for each digit: (N, 1, S, S) uint8 pixels, (N, K) classes.

    Further digits of an image and the distractors are drawn from the same digits. The random numbers are drawn on the
    CPU, so the images are the same on every device.
    """
    starts = range(0, len(digits), CHUNK)
    parts = [_draw(digits[start : start + CHUNK], transformation, generator) for start in starts]
    return Split(torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]))


def _draw(digits: Split, transformation: Transformation, generator: torch.Generator) -> Split:
    count, device = len(digits), digits.pixels.device
    others = torch.randint(count, (count, transformation.digits - 1), generator=generator)
    chosen = torch.cat([torch.arange(count).unsqueeze(1), others], dim=1).to(device)  # (N, K)
    images = digits.pixels[chosen, 0]  # (N, K, 28, 28)
    if transformation.warps:
        canvas = warp(images, *_warps(count, transformation, generator), transformation.size)
    else:
        canvas = torch.zeros(count, transformation.size, transformation.size, dtype=torch.int32, device=device)
        paste(canvas, images, *_places(count, transformation, generator))
    if transformation.pieces:
        piece, shape = transformation.piece_size, (count, transformation.pieces)
        sources = torch.randint(count, shape, generator=generator).to(device)
        pieces = cut(digits.pixels[:, 0], sources, *_corners(shape, DIGIT - piece, generator), piece)
        paste(canvas, pieces, *_corners(shape, transformation.size - piece, generator))
    return Split(canvas.clamp(max=255).to(torch.uint8).unsqueeze(1), digits.labels[chosen])


def _corners(shape: tuple[int, int], largest: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw rows and columns of upper left corners, from 0 to `largest`."""
    rows, columns = (torch.randint(largest + 1, shape, generator=generator) for _ in range(2))
    return rows, columns


def _places(count: int, transformation: Transformation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw (N, K) rows and columns of digits side by side on a slope; rows outside the image are moved into it."""
    room, number = transformation.size - DIGIT, torch.arange(transformation.digits)
    start, first = _corners((count, 1), room, generator)
    first = first % (room - DIGIT * (transformation.digits - 1) + 1)
    slope = torch.randint(2 * transformation.slope + 1, (count, 1), generator=generator) - transformation.slope
    return (start + number * slope).clamp(0, room), first + number * DIGIT


def _warps(count: int, transformation: Transformation, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw (N,) angles in radians, (N,) scales, and (N, 2) centres (x, y) in pixels from the centre of the image."""
    angle, scale = torch.rand(2, count, generator=generator)
    smallest, largest = transformation.scales
    scale = smallest + (largest - smallest) * scale
    centre = 2 * torch.rand(count, 2, generator=generator) - 1
    room = (transformation.size - DIGIT * scale).unsqueeze(1) / 2 * transformation.moved
    return math.radians(transformation.angle) * (2 * angle - 1), scale, room * centre


def warp(images: Tensor, angle: Tensor, scale: Tensor, centre: Tensor, size: int) -> Tensor:
    """(N, 1, 28, 28) uint8, (N,) angles, (N,) scales, (N, 2) centres -> (N, S, S) int32

    The digit is scaled, rotated counter-clockwise by the angle in radians, and moved from the centre of the image to
    `centre`. A pixel at p of the image shows the digit at R(-angle) (p - centre) / scale, with bilinear interpolation.
    """
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    # Both coordinates are -1 to 1 over the digit and over the image, so lengths are scaled by their ratio.
    theta = torch.cat([rotation * (size / DIGIT), -rotation @ (centre * 2 / DIGIT).unsqueeze(2)], dim=2)
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    return F.grid_sample(images.float(), grid.to(images.device), align_corners=False)[:, 0].round().int()


def cut(images: Tensor, sources: Tensor, rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """(N, H, W) images, (N, P) image numbers, rows and columns of upper left corners -> (N, P, size, size) pieces"""
    step = torch.arange(size, device=images.device)
    row = (rows.to(images.device)[..., None] + step)[..., None]
    column = (columns.to(images.device)[..., None] + step)[..., None, :]
    return images[sources[..., None, None], row, column]


def paste(canvas: Tensor, pieces: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add (N, P, h, w) pieces to the (N, S, S) canvas, with their upper left corners at (N, P) rows and columns."""
    height, width = pieces.shape[2:]
    down, right = (torch.arange(size, device=canvas.device) for size in (height, width))
    row = rows.to(canvas.device)[..., None, None] + down[:, None]
    index = row * canvas.shape[2] + columns.to(canvas.device)[..., None, None] + right
    canvas.flatten(1).scatter_add_(1, index.flatten(1), pieces.flatten(1).to(canvas.dtype))
