"""Non-maximum suppression: of several detections of an object, keep the one with the highest score.

Dimensions: B batch, C candidates.
"""

import torch
from torch import Tensor

from ch06_cnn.detection.boxes import iou


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """(C, 4) boxes, (C,) scores -> places of the kept boxes, by falling score

    The box with the highest score is kept, and all boxes whose IoU with it exceeds the threshold are removed. Then the
    same with the rest.
    """
    order = scores.argsort(descending=True, stable=True)
    overlap = iou(boxes, boxes) > threshold
    kept = []
    while len(order):
        kept.append(order[0])
        order = order[1:][~overlap[order[0], order[1:]]]
    return torch.stack(kept) if kept else order


def suppress(boxes: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """(B, C, 4) boxes by falling score, (B, C) labels -> (B, C) mask of the kept boxes, each class on its own

    Box j is kept if no kept box i < j of its class overlaps it. Start with all boxes kept and apply this rule to all of
    them at once, until nothing changes. After n rounds the first n decisions are final, so the result is that of `nms`;
    two to five rounds are usual.
    """
    overlap = (iou(boxes, boxes) > threshold) & (labels.unsqueeze(2) == labels.unsqueeze(1))
    overlap = overlap.triu(diagonal=1)  # (B, i, j): i comes before j
    kept = torch.ones_like(labels, dtype=torch.bool)
    for _ in range(labels.shape[1]):
        before = kept
        kept = ~(overlap & before.unsqueeze(2)).any(dim=1)
        if torch.equal(kept, before):
            break
    return kept
