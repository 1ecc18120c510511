"""A spatial transformer by hand: affine grid and bilinear sampler, forward and backward (Jaderberg et al. 2015).

Coordinates run from -1 to 1, x from left to right, y from top to bottom. As in torch, -1 and 1 are the outer edges of
the border pixels with `align_corners=False` (used by the networks), and their centres with `align_corners=True`.
Pixels outside the image are 0. `affine_grid` and `grid_sample` equal torch's functions of the same names.

Dimensions: B batch, C channels, H height, W width of the input; H', W' of the output; L = H' W' positions.
"""

from typing import Any, cast

import torch
from torch import Tensor


def axis(size: int, like: Tensor, *, align_corners: bool) -> Tensor:
    """Return the (size,) coordinates of the pixel centres of an axis."""
    ends = 1.0 if align_corners else 1 - 1 / size
    return torch.linspace(-ends, ends, size, dtype=like.dtype, device=like.device)


def target_points(size: tuple[int, int], like: Tensor, *, align_corners: bool) -> Tensor:
    """Return the (L, 3) homogeneous coordinates (x, y, 1) of the pixels of an output of size (H', W'), row by row."""
    y, x = (axis(length, like, align_corners=align_corners) for length in size)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=2).flatten(0, 1)


class _AffineGrid(torch.autograd.Function):
    """G = P theta^T for the points P of the output; dtheta = dG^T P."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        points = target_points(size, theta, align_corners=align_corners)
        ctx.save_for_backward(points)
        return (points @ theta.mT).view(-1, *size, 2)  # (L, 3) (B, 3, 2) -> (B, L, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (dgrid,) = gradients
        (points,) = ctx.saved_tensors
        return dgrid.flatten(1, 2).mT @ points, None, None  # (B, 2, L) (L, 3)


def affine_grid(theta: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """(B, 2, 3) -> (B, H', W', 2): for each pixel (x, y) of the output, theta (x, y, 1), the point where it samples

    Equation 1 of the paper; `size` is (H', W').
    """
    return cast(Tensor, _AffineGrid.apply(theta, size, align_corners))


class _Neighbours:
    """The four pixels around each of (B, L, 2) points: numbers, weights, and which of them are inside the image."""

    def __init__(self, points: Tensor, height: int, width: int, *, align_corners: bool) -> None:
        size = points.new_tensor([width, height])
        self.scale = (size - 1) / 2 if align_corners else size / 2  # pixels per unit of the coordinates
        position = (points + 1) * self.scale - (0.0 if align_corners else 0.5)
        position = torch.minimum(position.clamp(min=-2), size + 1)  # all points far outside are alike
        corner = position.floor()
        self.right, self.down = (position - corner).unbind(2)  # shares of the right and the lower pixels
        x0, y0 = corner.long().unbind(2)
        self.indices, self.inside = [], []  # each (B, L): upper left, upper right, lower left, lower right
        for y in (y0, y0 + 1):
            for x in (x0, x0 + 1):
                self.indices.append(y.clamp(0, height - 1) * width + x.clamp(0, width - 1))
                self.inside.append((x >= 0) & (x < width) & (y >= 0) & (y < height))

    def weights(self) -> list[Tensor]:
        """Return the bilinear weights of the four pixels."""
        right, down = self.right, self.down
        return [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]

    def values(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the four pixels' values, (B, C, L) each, 0 outside the image"""
        flat, channels = images.flatten(2), images.shape[1]
        return [
            flat.gather(2, index.unsqueeze(1).expand(-1, channels, -1)) * inside.unsqueeze(1)
            for index, inside in zip(self.indices, self.inside, strict=True)
        ]


class _GridSample(torch.autograd.Function):
    """The bilinear sampler: V = sum over the four neighbours n of w_n U_n (equation 5 of the paper).

    dU_n = w_n dV (equation 6), and dx = scale sum_c dV_c (the right values minus the left ones, weighted by the rows;
    equation 7), likewise dy.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
        ctx.save_for_backward(images, grid)
        ctx.align_corners = align_corners
        around = _Neighbours(grid.flatten(1, 2), *images.shape[2:], align_corners=align_corners)
        terms = [w.unsqueeze(1) * u for w, u in zip(around.weights(), around.values(images), strict=True)]
        return (terms[0] + terms[1] + terms[2] + terms[3]).unflatten(2, grid.shape[1:3])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        dv = gradients[0].flatten(2)  # (B, C, L)
        images, grid = ctx.saved_tensors
        around = _Neighbours(grid.flatten(1, 2), *images.shape[2:], align_corners=ctx.align_corners)
        dimages = None
        if ctx.needs_input_grad[0]:
            flat = torch.zeros_like(images, memory_format=torch.contiguous_format).flatten(2)
            for index, inside, weight in zip(around.indices, around.inside, around.weights(), strict=True):
                share = dv * (weight * inside).unsqueeze(1)
                flat.scatter_add_(2, index.unsqueeze(1).expand_as(share), share)
            dimages = flat.view(images.shape)
        upper_left, upper_right, lower_left, lower_right = around.values(images)
        right, down = around.right.unsqueeze(1), around.down.unsqueeze(1)
        across = (1 - down) * (upper_right - upper_left) + down * (lower_right - lower_left)
        along = (1 - right) * (lower_left - upper_left) + right * (lower_right - upper_right)
        dposition = torch.stack([(dv * across).sum(1), (dv * along).sum(1)], dim=2)  # (B, L, 2)
        return dimages, (dposition * around.scale).view_as(grid), None


def grid_sample(images: Tensor, grid: Tensor, *, align_corners: bool = False) -> Tensor:
    """(B, C, H, W), (B, H', W', 2) points (x, y) -> (B, C, H', W'), by bilinear interpolation"""
    return cast(Tensor, _GridSample.apply(images, grid, align_corners))


def region(theta: Tensor) -> Tensor:
    """(..., 2, 3) -> (..., 4, 2): corners (x, y) of the attended region, clockwise from the upper left of the output"""
    corners = theta.new_tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    return corners @ theta.mT
