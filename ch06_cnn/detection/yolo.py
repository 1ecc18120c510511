"""A one-stage head in the style of YOLO (Redmon et al. 2016, Redmon & Farhadi 2018), without anchors.

Each cell of each feature map predicts one box, the probability that it contains the centre of an object (objectness),
and the classes. A true box belongs to one cell: that of its centre, in the map whose reference size is nearest to its
own size.

Dimensions: B batch, A cells of all maps, K classes, M true boxes of an image at most.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.detection.anchors import UNMATCHED, cell_centres
from ch06_cnn.detection.boxes import LARGEST, areas, corner_form, iou, paired_iou
from common.data.boxes.boxed import NO_BOX

REFERENCE = 3.0
"""Size of a box with output 0, in strides."""
BOX_WEIGHT = 5.0
"""Weight of the boxes in the loss, that of the coordinates in the first YOLO."""
IGNORED = 0.5
"""A cell without an object whose box has a larger IoU with a true box is not trained towards objectness 0."""
PRIOR = 0.02
"""Objectness before training; without it, the many empty cells dominate the first steps (Lin et al. 2017)."""


class YOLO(nn.Module):
    """One 3x3 convolution per feature map gives, for each cell, four numbers for the box, objectness, and K logits."""

    centres: Tensor
    strides: Tensor

    def __init__(self, channels: int, classes: int, size: tuple[int, int], strides: Sequence[int]) -> None:
        super().__init__()
        self.classes, self.steps = classes, tuple(strides)
        self.shapes = [(size[0] // stride, size[1] // stride) for stride in strides]
        self.outputs = nn.ModuleList(nn.Conv2d(channels, 5 + classes, kernel_size=3, padding=1) for _ in strides)
        for layer in self.outputs:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            layer.bias.data[4] = math.log(PRIOR / (1 - PRIOR))
        centres = [cell_centres(*shape, stride) for shape, stride in zip(self.shapes, strides, strict=True)]
        sizes = [torch.full((len(its), 1), float(stride)) for its, stride in zip(centres, strides, strict=True)]
        self.register_buffer("centres", torch.cat(centres), persistent=False)  # (A, 2)
        self.register_buffer("strides", torch.cat(sizes), persistent=False)  # (A, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Feature maps -> (B, A, 5 + K) numbers of the box, objectness and logits of the classes"""
        outputs = [layer(x).permute(0, 2, 3, 1) for layer, x in zip(self.outputs, maps, strict=True)]
        return torch.cat([its.flatten(1, 2) for its in outputs], dim=1)

    def decode(self, numbers: Tensor) -> Tensor:
        """(B, A, 4) outputs t -> (B, A, 4) boxes

        x = x_cell + s (2 sigmoid(t_x) - 1), so that a centre at the edge of its cell needs no infinite output, and
        w = 3 s exp(t_w), with the stride s; the same for y and h.
        """
        centre = self.centres + self.strides * (2 * numbers[..., :2].sigmoid() - 1)
        size = REFERENCE * self.strides * numbers[..., 2:].clamp(max=LARGEST).exp()
        return corner_form(torch.cat([centre, size], dim=-1))

    def assign(self, boxes: Tensor, labels: Tensor) -> Tensor:
        """(B, M, 4) boxes, (B, M) labels -> (B, A) place of the box of each cell, or UNMATCHED

        If two centres are in the same cell of the same map, the smaller box gets it.
        """
        device = boxes.device
        area = areas(boxes)
        references = torch.tensor([REFERENCE * stride for stride in self.steps], device=device)
        distance = (area.clamp(min=1e-6).log().unsqueeze(2) / 2 - references.log()).abs()
        level = distance.argmin(2)  # (B, M)
        firsts, cell = 0, torch.zeros_like(level)
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        for number, (stride, (rows, columns)) in enumerate(zip(self.steps, self.shapes, strict=True)):
            column = (centres[..., 0] / stride).long().clamp(0, columns - 1)
            row = (centres[..., 1] / stride).long().clamp(0, rows - 1)
            cell = torch.where(level == number, firsts + row * columns + column, cell)
            firsts += rows * columns
        assigned = torch.full(
            (len(boxes), firsts + 1), UNMATCHED, device=device
        )  # the last is for places without a box
        cell = cell.masked_fill(labels == NO_BOX, firsts)
        order = area.argsort(dim=1, descending=True)  # the smaller box overwrites the larger one
        rows = torch.arange(len(boxes), device=device)
        for place in order.unbind(1):
            assigned[rows, cell[rows, place]] = place
        return assigned[:, :-1]

    def loss(self, outputs: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """(B, A, 5 + K) outputs, (B, M, 4) boxes, (B, M) labels -> loss per object

        Binary cross-entropy of the objectness in all cells, and, in the cells with an object, binary cross-entropy of
        the classes and BOX_WEIGHT (1 - IoU) of predicted and true box.
        """
        assigned = self.assign(boxes, labels)
        positive = assigned != UNMATCHED
        predicted = self.decode(outputs[..., :4])
        with torch.no_grad():
            overlap = iou(predicted, boxes).masked_fill((labels == NO_BOX).unsqueeze(1), 0).amax(2)
            trained = positive | (overlap <= IGNORED)
        objectness = F.binary_cross_entropy_with_logits(outputs[..., 4], positive.float(), reduction="none")
        image, cell = positive.nonzero(as_tuple=True)
        place = assigned[image, cell]
        true_classes = F.one_hot(labels[image, place], self.classes).float()
        classes = F.binary_cross_entropy_with_logits(outputs[image, cell, 5:], true_classes, reduction="sum")
        distance = (1 - paired_iou(predicted[image, cell], boxes[image, place])).sum()
        total = (objectness * trained).sum() + classes + BOX_WEIGHT * distance
        return total / max(1, len(image))

    def candidates(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A, 5 + K) outputs -> (B, A, 4) boxes, (B, A, K) objectness times probability of each class"""
        return self.decode(outputs[..., :4]), outputs[..., 4:5].sigmoid() * outputs[..., 5:].sigmoid()
