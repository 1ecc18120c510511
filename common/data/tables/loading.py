"""Tables with a target column: invented house sales, the diabetes data of scikit-learn, or a CSV file.

Dimensions: N rows.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.data import published
from common.data.source import DataCard, sha256_of, sha256_of_lines
from common.data.tables import houses
from common.data.tables.cells import Cells, read_cells
from common.data.tables.table import (
    MISSING,
    Categories,
    Numbers,
    Table,
    is_number,
    read_columns,
    read_like,
)

TableName = Literal["houses", "diabetes"]

MAX_LEVELS = 50
"""A column with more categories, for example one of free text, is left out."""
MEASUREMENTS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
"""Columns of the diabetes data; s1 to s6 are blood serum measurements."""
ID = "Id"
"""Column that identifies the rows, unless another one is named."""


@dataclass(frozen=True)
class TableSet:
    """The inputs and the target of a table."""

    card: DataCard
    inputs: Table
    target: Tensor
    """(N,) float64"""
    target_name: str
    log_target: bool = False
    """Whether models predict the logarithm of the target."""
    id_name: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Name of a column that is not an input, and the reason"""
    best: Callable[[Table], Tensor] | None = None
    """The best possible prediction of the (logarithm of the) target, where it is known"""


def load_table(name: TableName) -> TableSet:
    """Load an embedded table."""
    if name == "diabetes":
        return load_diabetes()
    made = from_cells(houses.sell(), "SalePrice", log_target=True)
    card = DataCard(name, True, made.card.sha256, f"{made.card.description}, embedded, drawn here")
    return TableSet(
        card, made.inputs, made.target, "SalePrice", True, ID, made.left_out, best=houses.expected_log_price
    )


def load_diabetes() -> TableSet:
    """Load scikit-learn's diabetes data (Efron et al. 2004): 442 patients, their progression after a year."""
    from sklearn.datasets import load_diabetes as load

    arrays = load(return_X_y=True, scaled=False)
    values, target = (torch.from_numpy(array).double() for array in arrays)
    inputs = Table({name: Numbers(column) for name, column in zip(MEASUREMENTS, values.unbind(1), strict=True)})
    card = DataCard("diabetes", True, sha256_of(values, target), f"{described(inputs)}, scikit-learn's")
    return TableSet(card, inputs, target, "progression")


def load_csv(
    path: Path,
    target: str,
    *,
    id_name: str | None = None,
    categorical: Collection[str] = (),
    log_target: bool = False,
) -> TableSet:
    """Read a CSV file with a header and a numeric target column.

    Raises FileNotFoundError where there is no such file; ValueError, naming file, line and column, for a cell that does
    not fit its column.
    """
    made = from_cells(read_cells(path), target, id_name=id_name, categorical=categorical, log_target=log_target)
    card = DataCard(published.own_name(path.stem), False, made.card.sha256, f"{made.card.description}, from {path}")
    return TableSet(card, made.inputs, made.target, target, log_target, made.id_name, made.left_out)


def from_cells(
    cells: Cells,
    target: str,
    *,
    id_name: str | None = None,
    categorical: Collection[str] = (),
    log_target: bool = False,
) -> TableSet:
    """Divide the columns of a CSV file into target, identification, inputs and those that are left out."""
    if id_name is None and ID in cells.columns and target != ID:
        id_name = ID
    for name in (*categorical, *([id_name] if id_name else [])):
        cells.column(name)  # raises ValueError for a column that the file does not have
        if name == target:
            raise ValueError(f"{cells.path}: the target {target!r} cannot be an input or identify the rows")
    values = read_target(cells, target, log_target=log_target)
    columns = read_columns(cells, [name for name in cells.columns if name not in (target, id_name)], categorical)
    reasons = {name: reason_to_leave_out(cells, name, column) for name, column in columns.columns.items()}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    inputs = Table({name: column for name, column in columns.columns.items() if name not in left_out})
    if not inputs.columns:
        raise ValueError(f"{cells.path} has no column that can be an input besides the target {target!r}")
    card = DataCard(cells.path.stem, False, sha256_of_lines(all_cells(cells)), described(inputs))
    return TableSet(card, inputs, values, target, log_target, id_name, left_out)


def read_target(cells: Cells, name: str, *, log_target: bool) -> Tensor:
    """(N,) values of the target column, none missing, above 0 if their logarithms are predicted"""
    for row, cell in enumerate(cells.column(name)):
        if not is_number(cell):
            raise cells.error(row, name, "but the target must be a finite number in every row")
        if log_target and float(cell) <= 0:
            raise cells.error(row, name, "but --log-target needs values above 0")
    values = torch.tensor([float(cell) for cell in cells.column(name)], dtype=torch.float64)
    if bool((values == values[0]).all()):
        raise ValueError(f"{cells.path}: the target {name!r} is {float(values[0]):g} in every row: nothing to predict")
    return values


def reason_to_leave_out(cells: Cells, name: str, column: Numbers | Categories) -> str:
    """Say why a column cannot be an input; an empty text if it can."""
    if isinstance(column, Numbers):
        return ""
    if not column.levels:
        return "every value is missing"
    if len(column.levels) <= MAX_LEVELS:
        return ""
    reason = f"{len(column.levels):,} categories, more than {MAX_LEVELS}"
    texts = [row for row, cell in enumerate(cells.column(name)) if cell not in MISSING and not is_number(cell)]
    if 0 < len(texts) < len(cells.lines) / 2:  # a column of numbers, but for a few cells
        reason += f"; line {cells.lines[texts[0]]} is {cells.column(name)[texts[0]]!r}, not a number"
    return reason


def described(inputs: Table) -> str:
    """Say how many rows and columns a table has."""
    numeric = sum(isinstance(column, Numbers) for column in inputs.columns.values())
    return f"{len(inputs):,} rows, {numeric} numeric and {len(inputs.columns) - numeric} categorical inputs"


def all_cells(cells: Cells) -> Iterable[str]:
    """Go through the names and the cells of all columns, for a checksum."""
    for name, column in cells.columns.items():
        yield name
        yield from column


def read_new_rows(path: Path, data: TableSet) -> tuple[tuple[str, ...], Table]:
    """Read the rows of a second file, without target, whose values are to be predicted: their ids and their inputs.

    Raises FileNotFoundError where there is no such file; ValueError for a column that it lacks, and, naming the line,
    for a cell that is not a number where the first file has numbers.
    """
    if data.id_name is None:
        raise ValueError(f"{path}: --predict needs --id, the column that identifies the rows")
    cells = read_cells(path, "--predict")
    return cells.column(data.id_name), read_like(cells, data.inputs)
