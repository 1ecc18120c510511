"""A table in memory: columns of numbers and of categories, any of them with missing values.

A column is numeric if each of its cells is a finite number or missing; otherwise its cells are categories.

Dimensions: N rows.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from common.data.tables.cells import Cells

MISSING = ("", "NA", "NaN", "nan", "?")
"""Cells that mean a missing value."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Numbers:
    """A column of numbers."""

    values: Tensor
    """(N,) float64; NaN is a missing value"""

    def __getitem__(self, rows: Tensor) -> "Numbers":
        return Numbers(self.values[rows])


@dataclass(frozen=True)
class Categories:
    """A column of categories."""

    levels: tuple[str, ...]
    """The different values of the column, sorted"""
    codes: Tensor
    """(N,) int64 index of the level; -1 is a missing value"""

    def __getitem__(self, rows: Tensor) -> "Categories":
        return Categories(self.levels, self.codes[rows])


Column = Numbers | Categories


@dataclass(frozen=True)
class Table:
    """Columns with the same number of rows."""

    columns: Mapping[str, Column]

    def __len__(self) -> int:
        first = next(iter(self.columns.values()))
        return len(first.values if isinstance(first, Numbers) else first.codes)

    def __getitem__(self, rows: Tensor) -> "Table":
        """Select rows by (M,) indices or an (N,) mask."""
        return Table({name: column[rows] for name, column in self.columns.items()})

    def numbers(self, name: str) -> Tensor:
        """(N,) values of a numeric column"""
        column = self.columns[name]
        assert isinstance(column, Numbers), f"{name} is not numeric"
        return column.values

    def categories(self, name: str) -> Categories:
        """Return a column of categories."""
        column = self.columns[name]
        assert isinstance(column, Categories), f"{name} is numeric"
        return column


def is_number(cell: str) -> bool:
    """Tell whether a cell is a finite decimal number; `1_000`, `inf` and `0x10` are not."""
    return NUMBER.fullmatch(cell) is not None and math.isfinite(float(cell))


def is_numeric(cells: Cells, name: str) -> bool:
    """Tell whether all cells of a column that are not missing are numbers, and at least one is not missing."""
    known = [cell for cell in cells.column(name) if cell not in MISSING]
    return bool(known) and all(map(is_number, known))


def read_numbers(cells: Cells, name: str) -> Numbers:
    """Read a numeric column; raises ValueError, naming file, line and column, for a cell that is not a number."""
    values = []
    for row, cell in enumerate(cells.column(name)):
        if cell not in MISSING and not is_number(cell):
            raise cells.error(row, name, "which is not a finite number")
        values.append(math.nan if cell in MISSING else float(cell))
    return Numbers(torch.tensor(values, dtype=torch.float64))


def read_categories(cells: Cells, name: str) -> Categories:
    """Read a column of categories."""
    column = cells.column(name)
    levels = tuple(sorted(set(column).difference(MISSING)))
    codes = {level: code for code, level in enumerate(levels)} | dict.fromkeys(MISSING, -1)
    return Categories(levels, torch.tensor([codes[cell] for cell in column]))


def read_columns(cells: Cells, names: Collection[str], categorical: Collection[str] = ()) -> Table:
    """Read columns as what they are; those named `categorical` are categories even if all cells are numbers."""
    return Table(
        {
            name: read_categories(cells, name)
            if name in categorical or not is_numeric(cells, name)
            else read_numbers(cells, name)
            for name in names
        }
    )


def read_like(cells: Cells, table: Table) -> Table:
    """Read the columns of another table, numeric where they are numeric there.

    Raises ValueError, naming the file, for a column that is not there, and the line for a cell that is not a number.
    """
    read = {Numbers: read_numbers, Categories: read_categories}
    return Table({name: read[type(column)](cells, name) for name, column in table.columns.items()})
