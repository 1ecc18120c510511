"""Check of exercise 6: find the bug: standardised columns."""

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers
from common.exercises.exercise import Arguments, Case, Exercise


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Expected columns, number by number."""

    def column(values: list[float], known: list[float]) -> list[float]:
        mean = sum(known) / len(known) if known else 0.0
        variance = sum((value - mean) ** 2 for value in known) / len(known) if known else 0.0
        deviation = math.sqrt(variance) or 1.0
        return [0.0 if math.isnan(value) or not known else (value - mean) / deviation for value in values]

    pairs = [
        (one, other, [value for value in one if not math.isnan(value)])
        for one, other in zip(train.mT.tolist(), test.mT.tolist(), strict=True)
    ]
    one = torch.tensor([column(values, known) for values, _, known in pairs], dtype=train.dtype)
    other = torch.tensor([column(values, known) for _, values, known in pairs], dtype=train.dtype)
    return one.mT, other.mT


def table(train: list[list[float]], test: list[list[float]]) -> Arguments:
    """Arguments of the function."""
    return {"train": torch.tensor(train, dtype=torch.float64), "test": torch.tensor(test, dtype=torch.float64)}


def sample_table(generator: Random, size: int) -> Arguments:
    """Random table with missing numbers in the test rows."""
    columns = generator.randint(1, min(size, 3))
    train, test = integers(generator, size + 1, columns), integers(generator, generator.randint(1, size), columns)
    test[0, 0] = math.nan if generator.random() < 0.3 else test[0, 0]
    return {"train": train, "test": test}


def standardised_with(rows_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., tuple]:
    """Make a wrong function whose statistics of the train and test rows come from the given rows."""

    def wrong(train: Tensor, test: Tensor) -> tuple[Tensor, ...]:
        results = []
        for rows, known in zip((train, test), rows_of(train, test), strict=True):
            mean = known.nanmean(0)
            std = (known - mean).square().nanmean(0).sqrt()
            results.append(((rows - mean) / torch.where(std == 0, 1, std)).nan_to_num(0))
        return tuple(results)

    return wrong


def both_sets(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Statistics of all rows, for both."""
    return torch.cat([train, test]), torch.cat([train, test])


STANDARDISE = Exercise(
    file="ex6_standardise",
    function="standardise",
    reference=standardised,
    results=("the training rows", "the test rows"),
    cases=(
        Case(table([[-1], [1]], [[0]]), "mean 0, standard deviation 1"),
        Case(table([[1], [3]], [[5]]), "the training rows have the mean 2 and the standard deviation 1"),
        Case(table([[4], [4]], [[5]]), "a standard deviation of 0 is replaced by 1"),
        Case(table([[1], [3], [math.nan]], [[math.nan]]), "a missing number becomes 0 and does not change the mean"),
    ),
    sample=sample_table,
    hint="The mean and the standard deviation are learned from data. Which rows may a model see before it is tested?",
    mistakes={
        "the test rows change the statistics, so information about them leaks into training": (
            standardised_with(both_sets)
        ),
        "the test rows must be standardised with the statistics of the training rows": (
            standardised_with(lambda train, test: (train, test))
        ),
    },
)
