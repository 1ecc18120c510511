"""Random flips, rotations, crops, zooms and elastic deformations for a batch, the same for image and mask.

Flips, rotations by 90 degrees and crops move whole pixels. Zooms and deformations interpolate the image, and take the
class of the nearest pixel; new pixels from outside the image are void.

Dimensions: B batch, H, W height and width, S size of a crop, G control points per side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ch06_cnn.detection.augment import GREY, change_colours
from common.data.masks.masked import VOID

CONTROL = 4
"""Control points per side of an elastic deformation."""


@dataclass(frozen=True)
class Augmentation:
    """What changes at random."""

    crop: int = 0
    """Size of a square crop in pixels; 0 keeps the whole image."""
    rotations: bool = True
    """All eight flips and rotations by 90 degrees of a square (of a rectangle: four), or horizontal flips only."""
    zoom: float = 1.0
    """Largest factor by which an image is enlarged or reduced."""
    elastic: float = 0.0
    """Standard deviation of the displacement of a control point, in pixels."""


def crop(images: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut a square at a random place out of each image, the same out of its mask."""
    count, channels, height, width = images.shape
    device, axis = images.device, torch.arange(size, device=images.device)
    rows = torch.randint(height - size + 1, (count, 1), device=device) + axis
    columns = torch.randint(width - size + 1, (count, 1), device=device) + axis
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # (B, S S)
    pixels = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1)).view(count, channels, size, size)
    return pixels, masks.flatten(1).gather(1, index).view(count, size, size)


def turn(images: Tensor, masks: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
    """Flip and transpose each image and its mask as its row of the (B, 3) booleans says.

    The three changes are a horizontal flip, a vertical flip, and an exchange of rows and columns. Together they give
    all rotations by 90 degrees and their mirror images: a rotation is an exchange and a flip.
    """
    layers = torch.cat([images, masks.unsqueeze(1).to(images.dtype)], dim=1)  # bytes, or floats that are exact
    for change, dimensions in zip(changes.T, ((3,), (2,), None), strict=True):
        if dimensions is None and layers.shape[2] != layers.shape[3]:
            continue  # only a square has the same shape afterwards
        other = layers.transpose(2, 3) if dimensions is None else layers.flip(dimensions)
        layers = torch.where(change.view(-1, 1, 1, 1), other, layers)
    return layers[:, :-1], layers[:, -1].to(masks.dtype)


def random_grid(count: int, size: tuple[int, int], device: torch.device, *, zoom: float, elastic: float) -> Tensor:
    """Sample (B, H, W, 2) positions (x, y) of the source of each new pixel, in half image sizes from the middle.

    `zoom` scales the image around its middle. Displacements of G x G control points with a standard deviation of
    `elastic` pixels are interpolated by cubic polynomials (Ronneberger et al. 2015).
    """
    height, width = size
    scale = zoom ** (2 * torch.rand(count, 1, 1, 1, device=device) - 1)
    identity = torch.eye(2, 3, device=device).expand(count, -1, -1)
    grid = F.affine_grid(identity, [count, 1, height, width], align_corners=False) / scale
    if elastic:
        moves = elastic * torch.randn(count, 2, CONTROL, CONTROL, device=device)
        field = F.interpolate(moves, size, mode="bicubic", align_corners=True)
        grid = grid + field.movedim(1, 3) * 2 / torch.tensor([width, height], device=device)
    return grid


def warp(images: Tensor, masks: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Sample images (interpolated) and masks (nearest pixel) at (B, H, W, 2) positions; outside is grey and void."""
    pixels = F.grid_sample(images.float() - GREY, grid, align_corners=False) + GREY
    classes = masks.float().unsqueeze(1) - VOID  # 0 outside
    chosen = F.grid_sample(classes, grid, mode="nearest", align_corners=False).squeeze(1) + VOID
    return pixels, chosen.to(masks.dtype)


def augment(images: Tensor, masks: Tensor, options: Augmentation) -> tuple[Tensor, Tensor]:
    """Change a batch of (B, 3, H, W) images and (B, H, W) masks at random; the images become floats, 0 ... 255."""
    count, device = len(images), images.device
    if options.zoom > 1 or options.elastic > 0:
        size = images.shape[2], images.shape[3]
        grid = random_grid(count, size, device, zoom=options.zoom, elastic=options.elastic)
        images, masks = warp(images, masks, grid)
    if options.crop:
        images, masks = crop(images, masks, options.crop)
    chance = torch.tensor([0.5, 0.5 * options.rotations, 0.5 * options.rotations], device=device)
    images, masks = turn(images, masks, torch.rand(count, 3, device=device) < chance)
    return change_colours(images.float()), masks
