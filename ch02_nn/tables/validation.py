"""K-fold cross-validation of models including their encoding; permutation importance.

Dimensions: N rows, K folds.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.data.tables.table import Table

Predictor = Callable[[Table], Tensor]
"""Function from N rows to (N,) predictions."""
Fit = Callable[[Table, Tensor], Predictor]
"""Fits a model to training rows and their (N,) targets; returns a predictor."""


def folds(rows: int, count: int, generator: torch.Generator) -> list[Tensor]:
    """Split the indices 0 ... N - 1 at random into K folds whose sizes differ by at most 1."""
    if not 2 <= count <= rows:
        raise ValueError(
            f"cannot split {rows} rows into {count} folds: the number of folds must be between 2 and {rows}"
        )
    order = torch.randperm(rows, generator=generator)
    return [order[fold::count] for fold in range(count)]


def out_of_fold(fit: Fit, table: Table, y: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Predict each fold by a model fitted to the other folds; return the (N,) predictions."""
    predictions = torch.full_like(y, torch.nan)
    for held_out in parts:
        others = torch.ones(len(y), dtype=torch.bool)
        others[held_out] = False
        predictions[held_out] = fit(table[others], y[others])(table[held_out])
    return predictions


def rmse(predictions: Tensor, y: Tensor) -> float:
    """Compute the root mean squared error (RMSE)."""
    return float((predictions - y).square().mean().sqrt())


def permutation_importance(
    predict: Predictor, table: Table, y: Tensor, generator: torch.Generator, repeats: int = 5
) -> dict[str, float]:
    """Compute the increase of the RMSE if the values of a column are permuted, as a mean over random permutations.

    Breiman (2001, section 10); Fisher, Rudin & Dominici (2019).
    """
    error = rmse(predict(table), y)
    importance = {}
    for name, column in table.columns.items():
        errors = []
        for _ in range(repeats):
            order = torch.randperm(len(table), generator=generator)
            errors.append(rmse(predict(Table({**table.columns, name: column[order]})), y))
        importance[name] = sum(errors) / repeats - error
    return importance
