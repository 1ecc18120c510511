"""Anchors: boxes of several sizes and proportions at every position of the feature maps, matched with the true boxes.

Dimensions: B batch, A anchors, M true boxes of an image at most, G anchors at a position.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ch06_cnn.detection.boxes import corner_form, iou
from common.data.boxes.boxed import NO_BOX

ANCHORS = 4
"""Anchors at a position: two squares, and a wide and a high box of the size between theirs."""
UNMATCHED = -1


def cell_centres(rows: int, columns: int, stride: int) -> Tensor:
    """Return the centres (x, y) of the cells of a feature map, in pixels of the image: (rows * columns, 2)."""
    x, y = ((torch.arange(count) + 0.5) * stride for count in (columns, rows))
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)


def make_anchors(size: tuple[int, int], strides: Sequence[int], scales: Sequence[tuple[float, float]]) -> Tensor:
    """Return the anchors of all feature maps of an image of (height, width), position by position: (A, 4).

    For scales s and s' of a map there are squares of side s and s', and boxes of sqrt(s s') sqrt(r) by
    sqrt(s s') / sqrt(r) for the proportions r = 2 and r = 1/2.
    """
    maps = []
    for stride, (small, large) in zip(strides, scales, strict=True):
        centres = cell_centres(size[0] // stride, size[1] // stride, stride)
        middle, root = math.sqrt(small * large), math.sqrt(2)
        wide = [(small, small), (large, large), (middle * root, middle / root), (middle / root, middle * root)]
        sizes = torch.tensor(wide).expand(len(centres), -1, -1)
        maps.append(torch.cat([centres.unsqueeze(1).expand(-1, ANCHORS, -1), sizes], dim=2).flatten(0, 1))
    return corner_form(torch.cat(maps))


def match(anchors: Tensor, boxes: Tensor, labels: Tensor, threshold: float = 0.5) -> Tensor:
    """(A, 4) anchors, (B, M, 4) boxes, (B, M) labels -> (B, A) place of each anchor's box, or UNMATCHED

    An anchor is matched with the box of largest IoU, if that is at least the threshold (Liu et al. 2016, section 2.2).
    Before that, every box gets one anchor: the pair with the largest IoU is matched, both are removed, and so on
    (bipartite matching, Erhan et al. 2014). So no box is left without an anchor, however unusual its size.
    """
    overlap = iou(boxes, anchors)  # (B, M, A)
    overlap = overlap.masked_fill((labels == NO_BOX).unsqueeze(2), -1)
    largest, place = overlap.max(dim=1)
    matched = place.masked_fill(largest < threshold, UNMATCHED)
    rows, most = torch.arange(len(boxes), device=boxes.device), boxes.shape[1]
    # At most M - 1 anchors are taken by other boxes, so the M best anchors of each box are enough.
    best, candidates = overlap.topk(min(most, len(anchors)), dim=2)  # (B, M boxes, M anchors)
    for _ in range(most):
        value, pair = best.flatten(1).max(dim=1)
        box = pair // best.shape[2]
        anchor = candidates[rows, box, pair % best.shape[2]]
        matched[rows, anchor] = torch.where(value >= 0, box, matched[rows, anchor])  # below 0: no box is left
        best.masked_fill_(candidates == anchor.view(-1, 1, 1), -1)
        best[rows, box] = -1
    return matched
