"""Time series: two whose best possible forecast is known, ETTh1, and columns of CSV files.

The series `delayed` is explained in `delayed.py`. The series `curve` repeats a profile every 24 steps, and deviates
from it by x_t, where each deviation determines the expectation of the next one, along a curve rather than a line:

    y_t = s(t mod 24) + x_t
    x_t = phi(x_{t-1}) + sigma e_t      phi(x) = 3.6 x exp(-x^2 / 2),  e_t ~ N(0, 1),  sigma = 0.25

The best forecast of y_{t+1}, given everything up to t, is s + phi(x_t), and its error is sigma. That of y_{t+h} is
s + m_h(x_t), where m_1 = phi and m_h(x) = E[m_{h-1}(phi(x) + sigma e)]: one-dimensional integrals. No forecast can
have a smaller expected squared error.

`etth1` is a real series: the oil temperature of an electricity transformer in China, in °C, every hour from July 2016
to June 2018 (Zhou et al. 2021). Training, validation and test set are the usual ones: 12, 4 and 4 months of 30 days.

Dimensions: N values, H steps ahead.
"""

import csv
import difflib
import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.data import published
from common.data.series import delayed
from common.data.source import DataCard, DataUnavailable, data_dir, fetch, sha256_of

SeriesName = Literal["curve", "delayed", "etth1"]

ETTH1_MIRRORS = ["https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"]
ETTH1_SHA256 = "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
ETTH1_SPLIT = (12 * 30 * 24, 4 * 30 * 24, 4 * 30 * 24)
"""Hours of the training, validation and test set; the published file has 122 more days, which are not used."""

SEED = 20_261_121
LENGTH = 20_000
PERIOD = 24
SIGMA = 0.25
TRAIN, VALID = 0.7, 0.15
"""Shares of the training set, the oldest values, and of the validation set; the newest values are the test set."""
GRID = 2_001
"""Points at which the conditional means are computed; values between them are interpolated linearly."""
NODES = 41
"""Points of the Gauss-Hermite rule for an expectation over e."""


@dataclass(frozen=True)
class Series:
    """Values in the order of time: training, validation and test set follow each other."""

    card: DataCard
    values: Tensor
    """(N,) float64"""
    train_end: int
    valid_end: int
    stray: Tensor | None = None
    """(N,) deviation of each value from the profile, if known"""
    states: Tensor | None = None
    """(N,) state of the Markov chain at each value, if known"""
    first: int = 0
    """Time of the first value"""

    def best(self, horizon: int) -> Tensor | None:
        """(N, H) expectation of the next values given all values so far, or None if it is not known"""
        if self.states is not None:
            return delayed.expectations(self.states, horizon)
        if self.stray is None:
            return None
        ahead = self.first + torch.arange(len(self.values)).unsqueeze(1) + torch.arange(1, horizon + 1)
        return profile(ahead) + conditional_means(self.stray, horizon)


def load_series(name: SeriesName = "curve", *, limit: int | None = None) -> Series:
    """Load a series by name. The embedded ones are generated from a fixed seed.

    Raises DataUnavailable if ETTh1 is neither on disk nor can be downloaded.
    """
    if name == "etth1":
        return _etth1(limit)
    generator = torch.Generator().manual_seed(SEED)
    if name == "delayed":
        values, states = delayed.draw(LENGTH, generator)
        return _split(name, values, "embedded, generated", embedded=True, limit=limit, states=states)
    stray = draw(LENGTH, generator)
    values = profile(torch.arange(LENGTH)) + stray
    return _split(name, values, "embedded, generated", embedded=True, limit=limit, stray=stray)


def load_csv(path: Path, column: str | None, *, limit: int | None = None) -> Series:
    """Read a column of a CSV file as a series; its lines are in the order of time.

    Raises FileNotFoundError if the file does not exist, ValueError with file and line if a value is not a number.
    """
    values = read_column(path, column)
    return _split(published.own_name(path.stem), values, f"from {path}", embedded=False, limit=limit)


def _etth1(limit: int | None) -> Series:
    """Read the oil temperature of ETTh1 from DATA_DIR/ETT-small/ETTh1.csv, which is downloaded if it is missing."""
    path = data_dir() / "ETT-small" / "ETTh1.csv"
    if not path.exists():
        try:
            fetch(ETTH1_MIRRORS, path, ETTH1_SHA256)
        except DataUnavailable as error:
            raise DataUnavailable(
                f"etth1 is not in {path.parent} and cannot be downloaded ({error}); put ETTh1.csv there, or use the "
                "embedded series: --data curve"
            ) from error
    values = read_column(path, "OT")
    needed = sum(ETTH1_SPLIT)
    if len(values) < needed:
        raise ValueError(f"{path} has {len(values):,} values, but the splits need {needed:,}: download it again")
    card = published.card("etth1", sha256_of(values), "", {"values": len(values)}, {"values": sha256_of(values)})
    return _split(card.name, values[:needed], f"from {path.parent}", card=card, sizes=ETTH1_SPLIT, limit=limit)


def _split(
    name: str,
    values: Tensor,
    source: str,
    *,
    embedded: bool = False,
    card: DataCard | None = None,
    sizes: tuple[int, ...] | None = None,
    limit: int | None,
    stray: Tensor | None = None,
    states: Tensor | None = None,
) -> Series:
    """Split a series by time; a limit keeps the newest training values and the oldest of the other splits."""
    count = len(values)
    train, valid = int(TRAIN * count), int(VALID * count)
    sizes = sizes or (train, valid, count - train - valid)
    first = max(0, sizes[0] - limit) if limit else 0
    kept_sizes = [min(size, limit or size) for size in sizes]
    kept = slice(first, first + sum(kept_sizes))
    description = "{:,} train, {:,} valid, {:,} test, in the order of time, ".format(*kept_sizes) + source
    card = replace(card or DataCard(name, embedded, sha256_of(values), ""), description=description)
    stray = None if stray is None else stray[kept]
    states = None if states is None else states[kept]
    return Series(card, values[kept], kept_sizes[0], kept_sizes[0] + kept_sizes[1], stray, states, first)


# The series `curve`.


def profile(time: Tensor) -> Tensor:
    """(N,) times -> (N,) s(t mod 24): a sine of period 24 and its second and third harmonic"""
    angle = 2 * math.pi * time.double() / PERIOD
    return 10 + 2.0 * torch.sin(angle - 1.9) + 0.8 * torch.sin(2 * angle + 0.6) + 0.3 * torch.cos(3 * angle)


def phi(x: float) -> float:
    """Expectation of the next deviation given this one: small deviations grow, large ones shrink."""
    return 3.6 * x * math.exp(-x * x / 2)


def draw(length: int, generator: torch.Generator) -> Tensor:
    """(N,) x_t = phi(x_{t-1}) + sigma e_t, after a burn-in of 100 steps"""
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

    Raises FileNotFoundError if the file does not exist, ValueError with file and line if a value is not a number.
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
        raise ValueError(f"{path} line {reader.line_num} is not a line of comma-separated values: {error}") from error
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
            raise ValueError(f"{path} line {number}: column {column!r} is {cell!r}, which is not a number")
        values.append(value)
    if len(set(values)) < 2:
        raise ValueError(
            f"{path}: column {column!r} holds {len(values)} values that do not change: nothing to forecast"
        )
    return torch.tensor(values, dtype=torch.float64)
