"""Solution: only kept boxes suppress others.

The function compared each box with all boxes of a higher score, also with those that were removed before. In a row of
three objects the first removes the second, and the removed second removed the third.
"""

from torch import Tensor


def suppress(iou: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """(N, N) IoU of all pairs, (N,) scores -> numbers of the kept boxes"""
    kept: list[int] = []
    for box in scores.argsort(descending=True, stable=True).tolist():
        if all(iou[box, other] <= threshold for other in kept):
            kept.append(box)
    return kept
