"""Find the bug: non-maximum suppression (15 minutes)

A detector finds an object several times. Non-maximum suppression keeps the box with the highest score and removes all
boxes whose IoU with it exceeds a threshold. Then it does the same with the rest, until no box is left.

The function below returns the numbers of the kept boxes by falling score; of equal scores the first box counts as
higher. Three objects stand in a row, and only neighbours overlap. The function keeps the first one and loses the third
one, although they do not overlap. Why?

Check: python -m ch06_cnn.exercises 4
"""

from torch import Tensor


def suppress(iou: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """(N, N) IoU of all pairs, (N,) scores -> numbers of the kept boxes"""
    order = scores.argsort(descending=True, stable=True).tolist()
    kept = []
    for place, box in enumerate(order):
        # Find the bug, then delete this comment.
        if all(iou[box, other] <= threshold for other in order[:place]):
            kept.append(box)
    return kept
