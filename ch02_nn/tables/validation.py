"""K-fold cross-validation of a whole model, its encoding included, and permutation importance.

Dimensions: N rows, K folds.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.data.tables.table import Table

Predictor = Callable[[Table], Tensor]
"""Maps N rows to (N,) predictions."""
Fit = Callable[[Table, Tensor], Predictor]
"""Maps training rows and their (N,) targets to a predictor."""


def folds(rows: int, count: int, generator: torch.Generator) -> list[Tensor]:
    """Divide the indices 0 ... N - 1 at random into K folds whose sizes differ by at most 1."""
    if not 2 <= count <= rows:
        raise ValueError(f"{rows} rows cannot be cut into {count} folds: there must be 2 or more, each with a row")
    order = torch.randperm(rows, generator=generator)
    return [order[fold::count] for fold in range(count)]


def out_of_fold(fit: Fit, table: Table, y: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """(N,) predictions of each fold by a model that was fitted to the other folds only"""
    predictions = torch.full_like(y, torch.nan)
    for held_out in parts:
        others = torch.ones(len(y), dtype=torch.bool)
        others[held_out] = False
        predictions[held_out] = fit(table[others], y[others])(table[held_out])
    return predictions


def rmse(predictions: Tensor, y: Tensor) -> float:
    """Root of the mean squared error"""
    return float((predictions - y).square().mean().sqrt())


def permutation_importance(
    predict: Predictor, table: Table, y: Tensor, generator: torch.Generator, repeats: int = 5
) -> dict[str, float]:
    """Compute by how much the RMSE grows if the values of one column are exchanged between rows at random.

    Mean over some random permutations of each column (Breiman 2001, section 10; Fisher, Rudin & Dominici 2019).
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
