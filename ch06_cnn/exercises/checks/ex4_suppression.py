"""Check of exercise 4: find the bug: non-maximum suppression."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import vector
from common.exercises.exercise import Arguments, Case, Exercise


def suppress_in_rounds(iou: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """Expected boxes: keep the best one, remove those that overlap it, and do the same with the rest."""
    left, kept = list(range(len(scores))), []
    while left:
        best = max(left, key=lambda box: (float(scores[box]), -box))
        kept.append(best)
        left = [box for box in left if box != best and float(iou[best, box]) <= threshold]
    return kept


def wrong_suppression(
    *, removed_count: bool = False, descending: bool = True, equal: bool = False, once: bool = False
) -> Callable[..., list[int]]:
    """Make a wrong function."""

    def wrong(iou: Tensor, scores: Tensor, threshold: float) -> list[int]:
        order = scores.argsort(descending=descending, stable=True).tolist()
        kept: list[int] = []
        for place, box in enumerate(order):
            others = order[:1] if once and place else order[:place] if removed_count else kept
            overlaps = [float(iou[box, other]) for other in others]
            if all(value < threshold if equal else value <= threshold for value in overlaps):
                kept.append(box)
        return kept

    return wrong


def boxes(scores: list[float], overlaps: dict[tuple[int, int], float], threshold: float = 0.5) -> Arguments:
    """Arguments with the IoU of some pairs; that of the others is 0."""
    iou = torch.eye(len(scores), dtype=torch.float64)
    for (i, j), value in overlaps.items():
        iou[i, j] = iou[j, i] = value
    return {"iou": iou, "scores": vector(*scores), "threshold": threshold}


def sample_boxes(generator: Random, size: int) -> Arguments:
    """Random boxes; half of the pairs overlap."""
    scores = [generator.randint(1, 9) / 10 for _ in range(size)]
    pairs = [(i, j) for i in range(size) for j in range(i)]
    return boxes(scores, {pair: generator.choice([0.0, 0.25, 0.5, 0.75]) for pair in pairs})


SUPPRESSION = Exercise(
    file="ex4_suppression",
    function="suppress",
    reference=suppress_in_rounds,
    cases=(
        Case(boxes([0.9], {}), "one box"),
        Case(boxes([0.8, 0.9], {}), "two boxes that do not overlap: the higher score first"),
        Case(boxes([0.8, 0.9], {(0, 1): 0.75}), "two boxes that overlap: the one with the higher score is kept"),
        Case(boxes([0.9, 0.9], {(0, 1): 0.75}), "equal scores: the first box is kept"),
        Case(boxes([0.9, 0.8], {(0, 1): 0.5}), "an IoU equal to the threshold does not exceed it"),
        Case(
            boxes([0.9, 0.8, 0.7], {(0, 1): 0.75, (1, 2): 0.75}),
            "box 0 removes box 1; box 2 overlaps only box 1, which is removed already",
        ),
    ),
    sample=sample_boxes,
    hint="Go through the three boxes of the task by hand. Which boxes may remove another one, according to the task?",
    mistakes={
        "a box that was removed must not remove others: compare with the kept boxes only": wrong_suppression(
            removed_count=True
        ),
        "the box with the highest score is kept, not the one with the lowest": wrong_suppression(descending=False),
        "only an IoU above the threshold removes a box; an equal one does not": wrong_suppression(equal=True),
        "every kept box removes others, not only the first one": wrong_suppression(once=True),
    },
)
