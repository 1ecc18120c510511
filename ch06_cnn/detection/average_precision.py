"""Average precision: how well detections of one class find the true boxes.

Detections are sorted by falling score. A detection is right if its IoU with a true box of its class that no earlier
detection has taken is at least a threshold. Precision and recall of the first n detections give a curve; the average
precision is the area under it.

Dimensions: N images, D detections and M true boxes of an image at most, T thresholds, K classes, n all detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ch06_cnn.detection.boxes import iou
from common.data.boxes.boxed import NO_BOX, BoxedImages

WRONG, RIGHT, IGNORED = 0, 1, -1
THRESHOLDS = tuple(round(0.5 + 0.05 * number, 2) for number in range(10))
"""IoU thresholds of COCO: 0.5, 0.55, ..., 0.95."""
POINTS = tuple(np.linspace(0, 1, 101).tolist())
"""Levels of recall of COCO."""


@dataclass(frozen=True)
class Detections:
    """Detections of N images, those of each by falling score."""

    boxes: Tensor
    """(N, D, 4)"""
    scores: Tensor
    """(N, D)"""
    labels: Tensor
    """(N, D) class of each detection; NO_BOX at places without one"""

    def __len__(self) -> int:
        return len(self.boxes)


def match_detections(
    overlap: Sequence[Sequence[float]], difficult: Sequence[bool], threshold: float
) -> tuple[list[int], list[int]]:
    """Match the detections of an image with its true boxes, in the order of their scores (COCO's rule).

    `overlap` is (D, M), 0 for boxes of another class. Each detection takes the true box of largest IoU among those that
    are still free. A detection that only overlaps a difficult box is IGNORED, as in VOC. Returns the verdict on each
    detection and the place of its box, -1 without one.
    """
    free = [True] * len(difficult)
    verdicts, places = [], []
    for row in overlap:
        best, place = threshold, -1
        ignored = False
        for number, value in enumerate(row):
            if value >= threshold and difficult[number]:
                ignored = True
            elif value >= best and free[number]:
                best, place = value, number
        if place >= 0:
            free[place] = False
        verdicts.append(RIGHT if place >= 0 else IGNORED if ignored else WRONG)
        places.append(place)
    return verdicts, places


def overlaps(detections: Detections, truth: BoxedImages, image: int) -> Tensor:
    """(D, M) IoU of detections and true boxes of an image, 0 for different classes"""
    labels, true_labels = detections.labels[image], truth.labels[image]
    same = (labels.unsqueeze(1) == true_labels.unsqueeze(0)) & (true_labels != NO_BOX).unsqueeze(0)
    return iou(detections.boxes[image], truth.boxes[image]) * same


def judge(detections: Detections, truth: BoxedImages, thresholds: Sequence[float]) -> np.ndarray:
    """(T, N, D) verdict on each detection at each threshold; WRONG at places without a detection"""
    verdicts = np.zeros((len(thresholds), *detections.labels.shape), dtype=np.int8)
    for image in range(len(truth)):
        overlap = overlaps(detections, truth, image)
        near = (overlap.amax(1) >= min(thresholds)).nonzero().squeeze(1)  # all others are wrong at every threshold
        rows, difficult = overlap[near].tolist(), truth.difficult[image].tolist()
        for number, threshold in enumerate(thresholds):
            verdicts[number, image, near.numpy()] = match_detections(rows, difficult, threshold)[0]
    return verdicts


def precision_recall(scores: np.ndarray, verdicts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) scores and verdicts, number of true boxes -> (n,) precision, (n,) recall of the first 1 ... n detections"""
    counted = verdicts != IGNORED
    order = np.argsort(-scores[counted], kind="stable")
    right = np.cumsum(verdicts[counted][order] == RIGHT)
    return right / np.arange(1, len(right) + 1), right / max(1, count)


def average_precision(precision: np.ndarray, recall: np.ndarray, *, points: Sequence[float] | None = POINTS) -> float:
    """Area under the precision-recall curve, with the precision made monotone: p(r) = max over r' >= r of p(r').

    With `points`, the mean of p at these levels of recall (COCO has 101, VOC before 2010 had 11); p is 0 at levels
    that are not reached. With None, the exact area under the steps (VOC since 2010).
    """
    if len(precision) == 0:
        return 0.0
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float(np.sum(np.diff(recall, prepend=0.0) * monotone))
    place = np.searchsorted(recall, points, side="left")
    return float(np.mean(np.append(monotone, 0.0)[place]))


def average_precisions(
    detections: Detections, truth: BoxedImages, classes: int, thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """(T, K) COCO's average precision at each threshold and of each class; NaN for a class without true boxes"""
    verdicts = judge(detections, truth, thresholds)
    result = np.full((len(thresholds), classes), np.nan)
    for label in range(classes):
        count = true_count(truth, label)
        chosen = (detections.labels == label).numpy()
        scores = detections.scores.numpy()[chosen]
        for number in range(len(thresholds)):
            if count:
                result[number, label] = average_precision(*precision_recall(scores, verdicts[number][chosen], count))
    return result


def true_count(truth: BoxedImages, label: int) -> int:
    """Number of true boxes of a class, without difficult ones."""
    return int(((truth.labels == label) & ~truth.difficult).sum())


def curves(detections: Detections, truth: BoxedImages, classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Precision and recall of each class at an IoU of 0.5."""
    verdicts = judge(detections, truth, (0.5,))[0]
    chosen = [(detections.labels == label).numpy() for label in range(classes)]
    return [
        precision_recall(detections.scores.numpy()[its], verdicts[its], true_count(truth, label))
        for label, its in enumerate(chosen)
    ]


def concatenate(parts: Sequence[Detections]) -> Detections:
    """Join the detections of several batches."""
    return Detections(*(torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "labels")))
