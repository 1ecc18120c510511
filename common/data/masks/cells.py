"""Generated slices of cells with dark membranes, in place of electron microscopy.

A cell is the region around its centre that is nearer to it than to the other centres. A pixel belongs to a membrane if
its distances to the two nearest centres differ by less than THICKNESS. Centres move from slice to slice, so adjacent
slices are similar. Cells contain dark discs and rings, which have the grey level of the membranes but belong to the
inside.

Dimensions: N slices, S = 128 image size, P cells, D discs.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from common.data.masks.masked import MaskedImages

SEED = 20_261_130
SLICES, SIZE = 30, 128
CELLS, DISCS = 30, 24
THICKNESS = 2.6
"""Difference of the distances to the two nearest centres below which a pixel belongs to a membrane."""
BEND = 3.0
"""Displacement of the membranes by a smooth random field, in pixels."""
INSIDE, DARK, NOISE = 0.68, 0.32, 0.09
"""Grey level of cells, of membranes, discs and rings, and standard deviation of the noise."""


def draw_cells() -> MaskedImages:
    """Draw the slices, the same on every machine."""
    generator = torch.Generator().manual_seed(SEED)
    axis = torch.arange(SIZE) + 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))  # (2, S, S)
    centres = _paths(CELLS, 6.0, generator)
    near = (grid + BEND * _smooth(2, generator)).unsqueeze(1) - centres[..., None, None]  # (N, 2, P, S, S)
    nearest = near.square().sum(1).sqrt().topk(2, dim=1, largest=False).values
    membranes = nearest[:, 1] - nearest[:, 0] < THICKNESS

    inner = grid.unsqueeze(1) - _paths(DISCS, 6.0, generator)[..., None, None]
    radii = (2 + 3 * torch.rand(DISCS, generator=generator)).view(-1, 1, 1)
    distance = inner.square().sum(1).sqrt() - radii
    ring = torch.arange(DISCS).view(-1, 1, 1) % 2 == 0
    dark = torch.where(ring, distance.abs() < 1, distance < 0).any(1)

    grey = torch.where(membranes | dark, DARK, INSIDE) + 0.1 * _smooth(SLICES, generator)
    grey = F.avg_pool2d(F.pad(grey.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    grey = grey + NOISE * torch.randn(grey.shape, generator=generator)
    pixels = grey.clamp(0, 1).mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    return MaskedImages(pixels, membranes.to(torch.uint8))


def _paths(count: int, reach: float, generator: torch.Generator) -> Tensor:
    """Sample (N, 2, count) positions that move on circles and lines around random places, continuously over slices."""
    places = SIZE * torch.rand(2, count, generator=generator)
    phase, speed = torch.rand(2, 2, count, generator=generator)
    angles = 2 * math.pi * (phase + (0.03 + 0.05 * speed) * torch.arange(SLICES).view(-1, 1, 1))
    return places + reach * angles.sin()


def _smooth(count: int, generator: torch.Generator) -> Tensor:
    """Sample (count, S, S) smooth random fields with values around 0."""
    coarse = torch.randn(1, count, 6, 6, generator=generator)
    return F.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=True).squeeze(0)
