"""Rows of a table as vectors: standardised numbers, indicators of missing values, one-hot categories.

A number x becomes z = (x - mu) / sigma, with the mean and the standard deviation of the training rows; a missing number
becomes z = 0, the mean, and a second feature is 1 where it was missing. A category becomes one feature per level, 1 for
the level of the row and 0 for the others. A missing value is a level of its own, because it may mean that something is
absent. Levels with fewer than `rare` training rows share the feature `other`. A level that no training row has counts
as rare; all features of its column are 0 if the training rows have no rare level.

Everything that is fitted here depends on the training rows only.

Dimensions: N rows, C columns, F features.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from common.data.tables.table import Numbers, Table


@dataclass(frozen=True)
class Scale:
    """Encoding of a numeric column."""

    mean: float
    deviation: float
    indicator: bool
    """Whether a feature says that the value is missing"""

    @classmethod
    def fit(cls, values: Tensor) -> "Scale | None":
        """Compute mean and standard deviation of the known values of (N,) numbers; None if these do not vary."""
        missing = values.isnan()
        known = values[~missing]
        if len(known) == 0 or bool((known == known[0]).all()):
            return None
        return cls(float(known.mean()), float(known.std()), bool(missing.any()))

    def names(self, column: str) -> list[str]:
        """Name the features of a column."""
        return [column, f"{column} missing"] if self.indicator else [column]

    def features(self, table: Table, column: str) -> Tensor:
        """(N rows) -> (N, 1 or 2) features"""
        values = table.numbers(column)
        z = ((values - self.mean) / self.deviation).nan_to_num(0.0)
        return torch.stack([z, values.isnan().double()][: 1 + self.indicator], dim=1)

    def codes(self, table: Table, column: str) -> Tensor:
        """(N rows) -> (N,) numbers as they are, with NaN for missing ones"""
        return table.numbers(column)


@dataclass(frozen=True)
class Levels:
    """Encoding of a column of categories."""

    own: tuple[str | None, ...]
    """Levels with a feature of their own; None stands for a missing value"""
    other: bool
    """Whether a feature stands for all other levels"""

    @classmethod
    def fit(cls, levels: tuple[str, ...], codes: Tensor, rare: int) -> "Levels | None":
        """Find the levels with at least `rare` rows from (N,) codes of levels; None if the codes do not vary."""
        counts = (codes + 1).bincount(minlength=1 + len(levels)).tolist()  # code -1 is a missing value
        present = [(level, count) for level, count in zip((None, *levels), counts, strict=True) if count > 0]
        if len(present) < 2:
            return None
        own = tuple(level for level, count in present if count >= rare)
        return cls(own, other=len(own) < len(present))

    def names(self, column: str) -> list[str]:
        """Name the features of a column."""
        own = [f"{column} {'missing' if level is None else f'= {level}'}" for level in self.own]
        return [*own, f"{column} other"] if self.other else own

    def places(self, table: Table, column: str) -> Tensor:
        """(N rows) -> (N,) index of the feature that is 1; -1 where none is"""
        index = {level: place for place, level in enumerate(self.own)}
        other = len(self.own) if self.other else -1
        levels, codes = table.categories(column).levels, table.categories(column).codes
        return torch.tensor([index.get(level, other) for level in (*levels, None)])[codes]  # code -1 takes the last

    def features(self, table: Table, column: str) -> Tensor:
        """(N rows) -> (N, levels) one-hot features"""
        return F.one_hot(self.places(table, column) + 1, 1 + len(self.own) + self.other)[:, 1:].double()

    def codes(self, table: Table, column: str) -> Tensor:
        """(N rows) -> (N,) index of the feature that is 1; NaN where none is"""
        places = self.places(table, column).double()
        return places.where(places >= 0, torch.nan)


@dataclass(frozen=True)
class Encoding:
    """Maps the rows of a table to vectors."""

    columns: Mapping[str, Scale | Levels]

    @classmethod
    def fit(cls, table: Table, rare: int) -> "Encoding":
        """Fit to the training rows; a column that does not vary in them is ignored.

        Raises ValueError where no column varies.
        """
        fitted = {
            name: Scale.fit(column.values)
            if isinstance(column, Numbers)
            else Levels.fit(column.levels, column.codes, rare)
            for name, column in table.columns.items()
        }
        varying = {name: part for name, part in fitted.items() if part is not None}
        if not varying:
            raise ValueError(f"none of the input columns varies in the {len(table)} training rows")
        return cls(varying)

    def names(self) -> list[str]:
        """Name the F features."""
        return [name for column, part in self.columns.items() for name in part.names(column)]

    def features(self, table: Table) -> Tensor:
        """(N rows) -> (N, F) features, for linear models and networks"""
        return torch.cat([part.features(table, column) for column, part in self.columns.items()], dim=1)

    def codes(self, table: Table) -> Tensor:
        """(N rows) -> (N, C) numbers as they are and indices of levels, with NaN for unknown values, for trees"""
        return torch.stack([part.codes(table, column) for column, part in self.columns.items()], dim=1)

    def record(self) -> dict[str, Any]:
        """Return what JSON holds of the encoding."""
        return {column: asdict(part) for column, part in self.columns.items()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Encoding":
        """Rebuild an encoding from its record."""
        return cls(
            {
                column: Levels(tuple(part["own"]), part["other"]) if "own" in part else Scale(**part)
                for column, part in record.items()
            }
        )
