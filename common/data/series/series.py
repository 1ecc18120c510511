"""Time series: two whose best possible forecast is known, and columns of CSV files.

The series `delayed` is explained in `delayed.py`. The series `curve` repeats a profile every 24 steps, and deviates
from it by x_t, where each deviation determines the expectation of the next one, along a curve rather than a line:

    y_t = s(t mod 24) + x_t
    x_t = phi(x_{t-1}) + sigma e_t      phi(x) = 3.6 x exp(-x^2 / 2),  e_t ~ N(0, 1),  sigma = 0.25

The best forecast of y_{t+1}, given everything up to t, is s + phi(x_t), and its error is sigma. That of y_{t+h} is
s + m_h(x_t), where m_1 = phi and m_h(x) = E[m_{h-1}(phi(x) + sigma e)]: one-dimensional integrals. No forecast can
have a smaller expected squared error.

Dimensions: N values, H steps ahead.
"""

import csv
import difflib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.data import published
from common.data.series import delayed
from common.data.source import DataCard, sha256_of

SeriesName = Literal["curve", "delayed"]

SEED = 20_261_121
LENGTH = 20_000
PERIOD = 24
SIGMA = 0.25
TRAIN, VALID = 0.7, 0.15
"""Shares of the series that come first, to train on, and next, to validate; the newest is the test."""
GRID = 2_001
"""Points at which the conditional means are computed; between them they are straight lines."""
NODES = 41
"""Points of the Gauss-Hermite rule for an expectation over e."""


@dataclass(frozen=True)
class Series:
    """Values in the order of time, cut into past (train), present (valid) and future (test)."""

    card: DataCard
    values: Tensor
    """(N,) float64"""
    train_end: int
    valid_end: int
    stray: Tensor | None = None
    """(N,) how far each value is from the profile, where that is known"""
    states: Tensor | None = None
    """(N,) state of the Markov chain at each value, where that is known"""
    first: int = 0
    """Time of the first value"""

    def best(self, horizon: int) -> Tensor | None:
        """(N, H) the expectation of the next values, given all up to each; None where nobody knows"""
        if self.states is not None:
            return delayed.expectations(self.states, horizon)
        if self.stray is None:
            return None
        ahead = self.first + torch.arange(len(self.values)).unsqueeze(1) + torch.arange(1, horizon + 1)
        return profile(ahead) + conditional_means(self.stray, horizon)


def load_series(name: SeriesName = "curve", *, limit: int | None = None) -> Series:
    """Draw an embedded series, the same on every machine."""
    generator = torch.Generator().manual_seed(SEED)
    if name == "delayed":
        values, states = delayed.draw(LENGTH, generator)
        return _cut(name, values, "embedded, drawn here", embedded=True, limit=limit, states=states)
    stray = draw(LENGTH, generator)
    values = profile(torch.arange(LENGTH)) + stray
    return _cut(name, values, "embedded, drawn here", embedded=True, limit=limit, stray=stray)


def load_csv(path: Path, column: str | None, *, limit: int | None = None) -> Series:
    """Read a column of a CSV file as a series; its lines are in the order of time.

    Raises FileNotFoundError where there is no such file, ValueError, naming file and line, for what is no number.
    """
    values = read_column(path, column)
    return _cut(published.own_name(path.stem), values, f"from {path}", embedded=False, limit=limit)


def _cut(
    name: str,
    values: Tensor,
    source: str,
    *,
    embedded: bool,
    limit: int | None,
    stray: Tensor | None = None,
    states: Tensor | None = None,
) -> Series:
    """Cut a series in time; a limit keeps the newest of the past, and the oldest of what follows."""
    count = len(values)
    train, valid = int(TRAIN * count), int(VALID * count)
    sizes = [min(size, limit or size) for size in (train, valid, count - train - valid)]
    first = train - sizes[0]
    kept = slice(first, first + sum(sizes))
    sha256 = sha256_of(values)
    description = "{:,} train, {:,} valid, {:,} test, in the order of time, ".format(*sizes) + source
    card = DataCard(name, embedded, sha256, description)
    stray = None if stray is None else stray[kept]
    states = None if states is None else states[kept]
    return Series(card, values[kept], sizes[0], sizes[0] + sizes[1], stray, states, first)


# The series `curve`.


def profile(time: Tensor) -> Tensor:
    """Times -> s(t mod 24): one large wave, and two smaller and faster ones"""
    angle = 2 * math.pi * time.double() / PERIOD
    return 10 + 2.0 * torch.sin(angle - 1.9) + 0.8 * torch.sin(2 * angle + 0.6) + 0.3 * torch.cos(3 * angle)


def phi(x: float) -> float:
    """Where a deviation sends the next one: a small one away from zero, a large one back."""
    return 3.6 * x * math.exp(-x * x / 2)


def draw(length: int, generator: torch.Generator) -> Tensor:
    """(N,) x_t = phi(x_{t-1}) + sigma e_t, after a hundred steps that are thrown away"""
    noise = SIGMA * torch.randn(100 + length, generator=generator, dtype=torch.float64).numpy()
    x, values = 0.0, np.empty(100 + length)
    for step, e in enumerate(noise):
        values[step] = x = phi(x) + e
    return torch.from_numpy(values[100:].copy())


def conditional_means(x: Tensor, horizon: int) -> Tensor:
    """(N,) deviations -> (N, H) E[x_{t+h} | x_t = x], h = 1 ... H

    m_1 = phi;  m_h(x) = E[m_{h-1}(phi(x) + sigma e)] = sum_k w_k m_{h-1}(phi(x) + sigma e_k), with the nodes e_k and
    weights w_k of Gauss and Hermite.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    grid = np.linspace(-6, 6, GRID)
    after = np.array([phi(deviation) for deviation in grid])
    reached = after[:, None] + SIGMA * nodes  # (GRID, NODES)
    m, means = after, []
    for _ in range(horizon):
        means.append(torch.from_numpy(np.interp(x.numpy(), grid, m)))
        m = np.interp(reached, grid, m) @ weights
    return torch.stack(means, dim=1)


# Columns of CSV files.


def read_column(path: Path, column: str | None) -> Tensor:
    """Read a column of numbers from a CSV file with a header, by the column's name.

    Raises FileNotFoundError where there is no such file, ValueError, naming file and line, for what is no number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: --csv takes a file of comma-separated values with a header")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} is no line of comma-separated values: {error}") from error
    header = [name.strip() for name in rows[0][1]] if rows else []
    if not header:
        raise ValueError(f"{path} is empty: its first line names the columns")
    if column is None:
        raise ValueError(f"choose a column of {path} with --column: it has {', '.join(header)}")
    if column not in header:
        near = difflib.get_close_matches(column, header, n=1)
        proposal = f"; did you mean {near[0]!r}?" if near else f": it has {', '.join(header)}"
        raise ValueError(f"{path} has no column {column!r}{proposal}")
    place = header.index(column)
    values = []
    for number, row in rows[1:]:
        if not row:
            continue
        cell = row[place].strip() if place < len(row) else ""
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{path} line {number}: column {column!r} is {cell!r}, which is no number")
        values.append(value)
    if len(set(values)) < 2:
        raise ValueError(
            f"{path}: column {column!r} holds {len(values)} values that do not change: nothing to forecast"
        )
    return torch.tensor(values, dtype=torch.float64)
