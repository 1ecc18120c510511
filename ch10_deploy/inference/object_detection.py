"""Detect objects with chapter 6's detector: from a picture to boxes, classes and scores.

The graph computes the box of each anchor and the probabilities of its classes. The rest is chapter 6's `select`, in
NumPy: candidates with the highest probabilities, and non-maximum suppression.

Dimensions: A anchors or cells, K classes, C candidates, D detections.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.inference.picture_files import resized

if TYPE_CHECKING:
    from PIL.Image import Image

CANDIDATES, MOST = 200, 100
"""Number of candidates of a picture before and of detections after non-maximum suppression, at most."""

LOWEST = 0.01
"""Minimum score of a detection, whatever the threshold of the request."""

SUPPRESSED = 0.45
"""IoU with a detection of a higher score and the same class above which a candidate is removed."""


def iou(boxes: np.ndarray) -> np.ndarray:
    """(C, 4) left, top, right, bottom -> (C, C) intersection over union of all pairs; 0 if both have no area"""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = (high - low).clip(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(-1)
    union = areas[:, None] + areas[None, :] - intersection
    return intersection / union.clip(min=np.finfo(union.dtype).tiny)


def select(boxes: np.ndarray, probabilities: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, 4) boxes, (A, K) probabilities -> (D, 4) boxes, (D,) scores, (D,) classes, by falling score

    A box is kept if no kept box of its class with a higher score overlaps it. Boxes with lower scores do not suppress
    others, so a higher threshold only removes detections.
    """
    classes = probabilities.shape[1]
    flat = probabilities.ravel()
    order = np.argsort(-flat, kind="stable")[:CANDIDATES]
    order = order[flat[order] >= max(threshold, LOWEST)]
    chosen, labels = boxes[order // classes], order % classes
    overlap = (iou(chosen) > SUPPRESSED) & (labels[:, None] == labels[None, :])
    kept: list[int] = []
    for place in range(len(order)):
        if len(kept) < MOST and not overlap[kept, place].any():
            kept.append(place)
    return chosen[kept], flat[order[kept]], labels[kept]


class ObjectDetector:
    """Find the objects of a picture."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.classes: list[str] = model.serving.classes
        self.height: int = model.serving.height
        self.width: int = model.serving.width

    def outputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """(H, W, 3) bytes of the size of the network's input -> the outputs of its graph"""
        return {name: value[0] for name, value in self.model(pixels=pixels[np.newaxis]).items()}

    def detect(self, picture: "Image", threshold: float) -> dict[str, Any]:
        """Detect objects with at least this score; boxes are in pixels of the picture."""
        outputs = self.outputs(resized(picture, self.height, self.width))
        boxes, scores, labels = select(outputs["boxes"], outputs["probabilities"], threshold)
        across, down = picture.width / self.width, picture.height / self.height
        found = [
            {"label": self.classes[label], "score": score, "box": box}
            for label, score, box in zip(
                labels.tolist(), scores.tolist(), (boxes * [across, down, across, down]).tolist(), strict=True
            )
        ]
        return {
            "model": "detection",
            "classes": self.classes,
            "width": picture.width,
            "height": picture.height,
            "detections": found,
        }
