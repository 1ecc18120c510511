"""SSD's head (Liu et al. 2016): logits of the classes and offsets of the box for each anchor, and its loss.

Dimensions: B batch, A anchors, G anchors at a position, K classes, M true boxes of an image at most.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.detection.anchors import ANCHORS, UNMATCHED, make_anchors, match
from ch06_cnn.detection.boxes import decode, encode

NEGATIVES = 3
"""Number of negatives per positive that are in the loss."""


def hard_negatives(losses: Tensor, positive: Tensor) -> Tensor:
    """(B, A) losses of the class, (B, A) mask of the positives -> (B, A) mask of the negatives in the loss

    Nearly all anchors are negative. Only those with the largest losses are kept: three per positive of the image.
    """
    ranked = losses.masked_fill(positive, -1).argsort(dim=1, descending=True)
    rank = ranked.argsort(dim=1)  # place of each anchor in the order
    count = (NEGATIVES * positive.sum(dim=1, keepdim=True)).minimum((~positive).sum(dim=1, keepdim=True))
    return rank < count


class SSD(nn.Module):
    """One 3x3 convolution per feature map gives, for each anchor, K + 1 logits (0 is the ground) and four offsets."""

    anchors: Tensor

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, int],
        strides: Sequence[int],
        scales: Sequence[tuple[float, float]],
    ) -> None:
        super().__init__()
        self.classes = classes
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, ANCHORS * (classes + 5), kernel_size=3, padding=1) for _ in strides
        )
        self.register_buffer("anchors", make_anchors(size, strides, scales), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Feature maps -> (B, A, K + 1 + 4) logits and offsets, in the order of the anchors"""
        outputs = [layer(x).permute(0, 2, 3, 1) for layer, x in zip(self.outputs, maps, strict=True)]
        return torch.cat([its.unflatten(3, (ANCHORS, self.classes + 5)).flatten(1, 3) for its in outputs], dim=1)

    def loss(self, outputs: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """(B, A, K + 5) outputs, (B, M, 4) boxes, (B, M) labels -> loss per matched anchor

        L = (1/N) (sum over positives and hard negatives of the cross-entropy + sum over positives of the smooth L1 loss
        of the offsets), with N matched anchors (Liu et al. 2016, equation 1 with alpha = 1).
        """
        logits, offsets = outputs.split([self.classes + 1, 4], dim=2)
        matched = match(self.anchors, boxes, labels)
        positive = matched != UNMATCHED
        place = matched.clamp(min=0)
        targets = (labels.gather(1, place) + 1) * positive  # 0 is the ground
        losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, A)
        counted = positive | hard_negatives(losses.detach(), positive)
        true_boxes = boxes.gather(1, place.unsqueeze(2).expand(-1, -1, 4))
        true_boxes = torch.where(positive.unsqueeze(2), true_boxes, self.anchors)  # any box with an area
        distance = F.smooth_l1_loss(offsets, encode(true_boxes, self.anchors), reduction="none").sum(2)
        return ((losses * counted).sum() + (distance * positive).sum()) / positive.sum().clamp(min=1)

    def candidates(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A, K + 5) outputs -> (B, A, 4) boxes, (B, A, K) probabilities of the classes"""
        logits, offsets = outputs.split([self.classes + 1, 4], dim=2)
        return decode(offsets, self.anchors), logits.softmax(2)[..., 1:]
