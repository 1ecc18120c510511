"""Detections of all images of a split, their measures and worst errors.

Dimensions: B batch, N images, A anchors or cells, K classes, C candidates, D detections of an image at most.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ch06_cnn.detection.average_precision import (
    IGNORED,
    RIGHT,
    THRESHOLDS,
    Detections,
    average_precisions,
    concatenate,
    match_detections,
    overlaps,
)
from ch06_cnn.detection.boxes import clip
from ch06_cnn.detection.network import Detector
from ch06_cnn.detection.suppression import suppress
from common.data.boxes.boxed import NO_BOX, BoxedImages
from common.device import Timer

CANDIDATES, MOST = 200, 100
"""Number of candidates of an image before and of detections after non-maximum suppression, at most."""
LOWEST = 0.01
"""Candidates with a lower score are left out."""
SUPPRESSED = 0.45
"""IoU above which the detection with the lower score is removed (Liu et al. 2016)."""
SHOWN = 0.5
"""Score from which a detection is drawn, and counts as an error if it is wrong."""


def select(boxes: Tensor, probabilities: Tensor) -> Detections:
    """(B, A, 4) boxes, (B, A, K) probabilities -> detections after non-maximum suppression"""
    count, classes = len(boxes), probabilities.shape[2]
    flat = probabilities.flatten(1)
    scores, place = flat.topk(min(CANDIDATES, flat.shape[1]), dim=1)
    labels = place % classes
    chosen = boxes.gather(1, (place // classes).unsqueeze(2).expand(-1, -1, 4))
    kept = suppress(chosen, labels.masked_fill(scores < LOWEST, NO_BOX), SUPPRESSED) & (scores >= LOWEST)
    scores, order = (scores * kept).sort(dim=1, descending=True, stable=True)
    scores, order = scores[:, :MOST], order[:, :MOST]
    labels = labels.gather(1, order).masked_fill(scores == 0, NO_BOX)
    kept_boxes = chosen.gather(1, order.unsqueeze(2).expand(count, -1, 4))
    return Detections(kept_boxes, scores, labels)


@torch.inference_mode()
def detect(model: Detector, pixels: Tensor, *, batch_size: int = 64, bf16: bool = False) -> Detections:
    """(N, 3, H, W) uint8 -> detections on the CPU, in evaluation mode; boxes are clipped to the image"""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    parts = []
    for batch in pixels.split(batch_size):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = model(batch.to(device))
        boxes, probabilities = model.head.candidates(outputs.float())
        found = select(clip(boxes, *pixels.shape[2:]), probabilities)
        parts.append(Detections(found.boxes.cpu(), found.scores.cpu(), found.labels.cpu()))
    model.train(was_training)
    return concatenate(parts)


def inference_rate(model: Detector, pixels: Tensor, *, batch_size: int, bf16: bool) -> float:
    """Images per second from bytes to detections, with non-maximum suppression, without loading."""
    device = next(model.parameters()).device
    detect(model, pixels[:batch_size], batch_size=batch_size, bf16=bf16)
    with Timer(device) as timer:
        detect(model, pixels, batch_size=batch_size, bf16=bf16)
    return len(pixels) / timer.seconds


def measure(
    detections: Detections, truth: BoxedImages, names: tuple[str, ...], *, by_class: bool = False
) -> dict[str, float]:
    """Return COCO's mean average precision: at an IoU of 0.5 and 0.75, and the mean over 0.5, 0.55, ..., 0.95.

    With `by_class` also the average precision of each class at 0.5. Classes without a true box are left out.
    """
    values = average_precisions(detections, truth, len(names))  # (T, K)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a split without any box
        means = np.nan_to_num(np.nanmean(values, axis=1))
    result = {
        "map50": float(means[THRESHOLDS.index(0.5)]),
        "map75": float(means[THRESHOLDS.index(0.75)]),
        "map": float(means.mean()),
    }
    for name, value in zip(names, values[0], strict=True):
        if by_class and not math.isnan(value):
            result[f"{name.lower()}_ap50"] = float(value)
    return result


@dataclass(frozen=True)
class Errors:
    """Errors of an image: wrong detections, and missed boxes."""

    image: int
    wrong: list[int]
    """Places of the detections with a score of at least SHOWN that match no true box at an IoU of 0.5."""
    missed: list[int]
    """Places of the true boxes that no detection with such a score matches."""
    severity: float
    """Number of missed boxes and sum of the scores of the wrong detections."""


def worst_errors(detections: Detections, truth: BoxedImages) -> list[Errors]:
    """List the images with errors, the worst first."""
    found = []
    for image in range(len(truth)):
        shown = detections.scores[image] >= SHOWN
        rows = overlaps(detections, truth, image)[shown].tolist()
        difficult = truth.difficult[image].tolist()
        verdicts, places = match_detections(rows, difficult, 0.5)
        wrong = [place for place, verdict in enumerate(verdicts) if verdict not in (RIGHT, IGNORED)]
        real = ((truth.labels[image] != NO_BOX) & ~truth.difficult[image]).nonzero().squeeze(1).tolist()
        missed = [place for place in real if place not in places]
        if wrong or missed:
            severity = len(missed) + float(detections.scores[image, wrong].sum())
            found.append(Errors(image, wrong, missed, severity))
    return sorted(found, key=lambda errors: -errors.severity)
