"""Check of exercise 7: find the bug: drift between two batches."""

from fractions import Fraction
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Counts = list[int]


def overlap_of_shares(training: Counts, new: Counts) -> float:
    """Expected distance: what is missing to 1 in the common part of both distributions, as exact fractions."""
    pairs = zip(training, new, strict=True)
    return float(1 - sum(min(Fraction(p, sum(training)), Fraction(q, sum(new))) for p, q in pairs))


def differences(training: Counts, new: Counts) -> list[float]:
    """Differences of the shares."""
    return [abs(p / sum(training) - q / sum(new)) for p, q in zip(training, new, strict=True)]


def of_counts(training: Counts, new: Counts) -> float:
    """Typical mistake: counts instead of shares."""
    return sum(abs(p - q) for p, q in zip(training, new, strict=True)) / (sum(training) + sum(new))


def sample_counts(generator: Random, size: int) -> Arguments:
    """Random numbers of images per class; neither sum is 0."""
    training, new = ([generator.randint(0, 4) for _ in range(size)] for _ in range(2))
    training[0], new[-1] = training[0] + 1, new[-1] + 1
    return {"training": training, "new": new}


DRIFT = Exercise(
    file="ex7_drift",
    function="drift",
    reference=overlap_of_shares,
    cases=(
        Case({"training": [1, 1], "new": [1, 1]}, "equal batches"),
        Case({"training": [1, 0], "new": [0, 1]}, "no class occurs in both: 1"),
        Case({"training": [1, 1], "new": [2, 0]}, "shares 1/2, 1/2 and 1, 0"),
        Case({"training": [2, 2], "new": [1, 1]}, "a smaller batch with the same shares"),
        Case({"training": [3, 1], "new": [1, 0]}, "shares 3/4, 1/4 and 1, 0"),
        Case({"training": [2, 1, 1], "new": [1, 2, 1]}, "the share of the third class is the same"),
        Case({"training": [1, 1, 1, 1], "new": [2, 2, 0, 0]}, "two shares grow, two fall"),
    ),
    sample=sample_counts,
    hint="What is p_1 if 2 of 4 images are of class 1? And if 1 of 2 is? Which numbers does the function subtract?",
    mistakes={
        "divide each count by the sum of its own batch first: shares are compared, not counts": of_counts,
        "the factor 1/2 is missing: what one class loses, another one gains": lambda training, new: sum(
            differences(training, new)
        ),
        "all classes count, not only the one with the largest difference": lambda training, new: max(
            differences(training, new)
        ),
        "the differences are added, not averaged over the classes": lambda training, new: (
            sum(differences(training, new)) / len(new)
        ),
        "the magnitudes of the differences are added; otherwise the sum is always 0": lambda training, new: (
            sum(p / sum(training) - q / sum(new) for p, q in zip(training, new, strict=True)) / 2
        ),
    },
)
