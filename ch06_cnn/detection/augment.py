"""Random flips, zooms and colours for a batch of images, which also transform the boxes.

Dimensions: B batch, H, W height and width, M boxes of an image at most.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ch06_cnn.detection.boxes import areas, clip
from common.data.boxes.boxed import NO_BOX

KEPT = 0.4
"""Minimum share of a box inside the new image; smaller ones are dropped."""
BRIGHTNESS, CONTRAST = 20.0, 0.2
GREY = 127.0
"""Value of pixels outside the old image."""


def random_transform(count: int, device: torch.device, *, zoom: float, upside_down: bool) -> tuple[Tensor, Tensor]:
    """Sample (B, 2) factors and (B, 2) offsets for x and y: new = factor * old + offset, in half image sizes.

    The origin is the middle of the image, which becomes up to `zoom` times as large or as small. A negative factor
    flips it. The offset moves a larger image within the frame and a smaller one inside it, so that an edge of the one
    never crosses the middle of the other.
    """
    size = zoom ** (2 * torch.rand(count, 1, device=device) - 1)
    flips = torch.rand(count, 2, device=device) < torch.tensor([0.5, 0.5 * upside_down], device=device)
    room = (size - 1).abs()
    offset = room * (2 * torch.rand(count, 2, device=device) - 1)
    return torch.where(flips, -size, size), offset


def transform_images(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """(B, 3, H, W) pixels, (B, 2) factors and offsets -> (B, 3, H, W) floats, interpolated; grey outside the image"""
    scale, shift = 1 / factor, -offset / factor  # from new to old positions
    matrix = torch.stack(
        [
            torch.stack([scale[:, 0], torch.zeros_like(scale[:, 0]), shift[:, 0]], dim=1),
            torch.stack([torch.zeros_like(scale[:, 0]), scale[:, 1], shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images.float() - GREY, grid, align_corners=False) + GREY


def transform_boxes(
    boxes: Tensor, labels: Tensor, factor: Tensor, offset: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Transform (B, M, 4) boxes like the images, clip them, and drop those that are mostly outside."""
    half = boxes.new_tensor([width, height]) / 2
    corners = boxes.unflatten(2, (2, 2)) / half - 1  # (B, M, 2 corners, x and y) from -1 to 1
    moved = (corners * factor[:, None, None] + offset[:, None, None] + 1) * half
    whole = torch.cat([moved.amin(2), moved.amax(2)], dim=2)  # a flip exchanges the corners
    clipped = clip(whole, height, width)
    dropped = areas(clipped) < KEPT * areas(whole)
    return clipped, labels.masked_fill(dropped, NO_BOX)


def change_colours(images: Tensor) -> Tensor:
    """Change brightness, contrast and the balance of the channels of each image at random."""
    count, device = len(images), images.device
    contrast = 1 + CONTRAST * (2 * torch.rand(count, 1, 1, 1, device=device) - 1)
    brightness = BRIGHTNESS * (2 * torch.rand(count, 1, 1, 1, device=device) - 1)
    balance = BRIGHTNESS / 2 * (2 * torch.rand(count, 3, 1, 1, device=device) - 1)
    return ((images - GREY) * contrast + GREY + brightness + balance).clamp(0, 255)


def augment(
    images: Tensor, boxes: Tensor, labels: Tensor, *, zoom: float, upside_down: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Flip, zoom and recolour a batch; with `upside_down` also vertical flips. The images become floats, 0 ... 255."""
    *_, height, width = images.shape
    factor, offset = random_transform(len(images), images.device, zoom=zoom, upside_down=upside_down)
    new_boxes, new_labels = transform_boxes(boxes, labels, factor, offset, height, width)
    return change_colours(transform_images(images, factor, offset)), new_boxes, new_labels
