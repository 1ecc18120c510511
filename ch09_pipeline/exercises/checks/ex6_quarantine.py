"""Check of exercise 6: why a batch is quarantined."""

from collections.abc import Callable
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise


def reason_by_reading(batch: bytes, pixels: int, classes: int) -> str:
    """Expected reason: read record after record, and collect what is found."""
    found, left = set(), batch
    while left:
        record, left = left[: 1 + pixels], left[1 + pixels :]
        if len(record) <= pixels:
            return "truncated"
        found |= {"label"} if record[0] not in range(classes) else set()
        found |= {"single colour"} if record[1:] == record[1:2] * pixels else set()
    return next((name for name in ("label", "single colour") if name in found), "") if batch else "empty"


def wrong_reason(
    *,
    empty: bool = True,
    truncated: bool = True,
    most: int = 0,
    first: bool = False,
    whole: bool = False,
    by_image: bool = False,
) -> Callable[..., str]:
    """Make a wrong function."""

    def wrong(batch: bytes, pixels: int, classes: int) -> str:
        if empty and not batch:
            return "empty"
        length = 1 + pixels
        if truncated and len(batch) % length:
            return "truncated"
        records = [batch[start : start + length] for start in range(0, len(batch) - pixels, length)]
        records = records[:1] if first else records
        labels = [record[0] >= classes + most for record in records]
        colours = [len(set(record[1:])) == 1 for record in records]
        if whole:
            colours = [len({value for record in records for value in record[1:]}) == 1]
        if by_image:
            return next(
                (("label" if bad else "single colour") for bad, one in zip(labels, colours, strict=True) if bad or one),
                "",
            )
        return "label" if any(labels) else "single colour" if any(colours) else ""

    return wrong


def batch(*records: list[int], cut: int = 0) -> Arguments:
    """Arguments with images of two pixels and ten classes."""
    data = bytes(value for record in records for value in record)
    return {"batch": data[: len(data) - cut], "pixels": 2, "classes": 10}


def sample_batch(generator: Random, size: int) -> Arguments:
    """Random batch, mostly good."""
    pixels, classes = generator.randint(2, 3), generator.choice([2, 10])
    data = []
    for _ in range(size):
        label = generator.randrange(classes + (generator.random() < 0.2))
        data += [label, *(generator.randint(0, 3) for _ in range(pixels))]
    cut = generator.choice([0, 0, 0, 1])
    return {"batch": bytes(data[: len(data) - cut]), "pixels": pixels, "classes": classes}


QUARANTINE = Exercise(
    file="ex6_quarantine",
    function="reason",
    reference=reason_by_reading,
    cases=(
        Case(batch([0, 1, 2]), "a good batch of one image"),
        Case(batch([9, 1, 2]), "9 is the last of ten labels"),
        Case(batch(), "no bytes"),
        Case(batch([0, 1, 2], cut=1), "the last pixel is missing"),
        Case(batch([10, 1, 2]), "10 is not a label of ten classes"),
        Case(batch([0, 5, 5]), "both pixels are 5"),
        Case(batch([0, 0, 1], [0, 5, 5]), "the second image has one colour"),
        Case(batch([0, 5, 5], [10, 1, 2]), "both reasons apply: a wrong label comes first in the list"),
        Case(batch([0, 5, 5], [0, 5, 5], cut=1), "an incomplete record comes first in the list"),
    ),
    sample=sample_batch,
    hint=(
        "Use `len(batch) % (1 + pixels)` for the length. Then cut the batch into records; record[0] is the label, and "
        "set(record[1:]) has one element if all pixels are equal."
    ),
    mistakes={
        "an empty batch has no incomplete record, but it is not good either": wrong_reason(empty=False),
        "a batch whose last record is incomplete is truncated": wrong_reason(truncated=False),
        "labels start at 0, so the number of classes is not a label": wrong_reason(most=1),
        "all images must be checked, not only the first one": wrong_reason(first=True),
        "one image of a single colour is enough": wrong_reason(whole=True),
        "a wrong label anywhere comes before a single colour: check all labels first": wrong_reason(by_image=True),
    },
)
