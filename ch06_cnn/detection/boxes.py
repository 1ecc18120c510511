"""Boxes: areas, intersection over union, and offsets from anchors to boxes.

A box is (left, top, right, bottom) in pixels; the left edge of the image is 0. Its width is right - left.

Dimensions: N, M boxes, ... any leading dimensions.
"""

import math

import torch
from torch import Tensor

VARIANCES = (0.1, 0.2)
"""Divisors of the offsets of centres and of sizes (Liu et al. 2016), so that targets have a spread of about 1."""
LARGEST = math.log(1_000 / 16)
"""Largest log ratio of a decoded size to that of its anchor; larger ones would overflow in exp."""


def areas(boxes: Tensor) -> Tensor:
    """(..., 4) boxes -> (...) areas; 0 if the corners are exchanged"""
    left, top, right, bottom = boxes.unbind(-1)
    return (right - left).clamp(min=0) * (bottom - top).clamp(min=0)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., 4), (..., 4) -> (...) intersection over union of each pair; 0 if both have no area

    IoU(a, b) = |a ∩ b| / |a ∪ b|, with |a ∪ b| = |a| + |b| - |a ∩ b|.
    """
    (left, top, right, bottom), (left2, top2, right2, bottom2) = boxes.unbind(-1), others.unbind(-1)
    width = (torch.minimum(right, right2) - torch.maximum(left, left2)).clamp(min=0)
    height = (torch.minimum(bottom, bottom2) - torch.maximum(top, top2)).clamp(min=0)
    intersection = width * height
    union = areas(boxes) + areas(others) - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., N, 4), (..., M, 4) -> (..., N, M) intersection over union of all pairs"""
    return paired_iou(boxes.unsqueeze(-2), others.unsqueeze(-3))


def centre_form(boxes: Tensor) -> Tensor:
    """(..., 4) left, top, right, bottom -> (..., 4) x and y of the centre, width, height"""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def corner_form(boxes: Tensor) -> Tensor:
    """(..., 4) x and y of the centre, width, height -> (..., 4) left, top, right, bottom"""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(..., 4) boxes, (..., 4) anchors -> (..., 4) offsets (Liu et al. 2016, equation 2)

    t_x = (x - x_a) / (w_a v_1), t_w = log(w / w_a) / v_2, and the same for y and h, with the variances v.
    """
    box, anchor = centre_form(boxes), centre_form(anchors)
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:] / VARIANCES[0]
    return torch.cat([shift, (box[..., 2:] / anchor[..., 2:]).log() / VARIANCES[1]], dim=-1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """(..., 4) offsets, (..., 4) anchors -> (..., 4) boxes; the inverse of `encode`"""
    anchor = centre_form(anchors)
    centre = anchor[..., :2] + offsets[..., :2] * VARIANCES[0] * anchor[..., 2:]
    size = anchor[..., 2:] * (offsets[..., 2:] * VARIANCES[1]).clamp(max=LARGEST).exp()
    return corner_form(torch.cat([centre, size], dim=-1))


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Clip boxes (..., 4) to an image."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
