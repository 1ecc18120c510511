"""List runs as a table or as JSON: filter and sort their records."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.config import require
from common.run_folders.records import RunRecord, State, read_runs

Column = Literal["date", "state", "chapter", "program", "data", "metric", "seconds", "device"]

LONGEST_CELL = 32
"""Maximum number of characters of a cell."""

HEADINGS = ("run", "chapter", "program", "data", "metric", "seconds", "device", "date", "state")


@dataclass(frozen=True)
class Filter:
    """Choice of runs; a run must match every given condition."""

    out: Path = Path("runs")
    """Folder of the runs."""
    chapter: str = ""
    """Only runs of this chapter: ch06 or ch06_cnn."""
    program: str = ""
    """Only runs of this program."""
    data: str = ""
    """Only runs on data whose name starts with this."""
    state: State | None = None
    """Only runs in this state. Default: all."""
    text: str = ""
    """Only runs whose path, data, device or settings contain this text, as in "learning-rate 0.01"."""


@dataclass(frozen=True)
class List(Filter):
    """List runs: chapter, program, data, main metric, seconds, device, date and state."""

    sort: Column = "date"
    """Column to sort by: dates and metrics descending, the others ascending."""
    reverse: bool = False
    """Reverse the order."""
    limit: int | None = None
    """Maximum number of runs. Default: all."""
    json: bool = False
    """Print one JSON object per line, with all settings and metrics."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit > 0, "--limit must be at least 1", self.limit)


def chosen(options: Filter) -> Iterator[RunRecord]:
    """Yield the runs that match the filter."""
    for run in read_runs(options.out):
        if (
            run.chapter.startswith(options.chapter)
            and options.program in ("", run.program)
            and run.data.startswith(options.data)
            and options.state in (None, run.state)
            and (not options.text or options.text.lower() in searchable(run))
        ):
            yield run


def searchable(run: RunRecord) -> str:
    """Return the text of a run that --text searches, in lower case."""
    settings = " ".join(f"{name.replace('_', '-')} {value}" for name, value in run.settings.items())
    return f"{run.folder} {run.data} {run.device} {run.problem} {settings}".lower()


DESCENDING = ("date", "metric")

KEYS: dict[str, Callable[[RunRecord], Any]] = {
    "date": lambda run: run.date,
    "state": lambda run: run.state,
    "chapter": lambda run: run.chapter or None,
    "program": lambda run: run.program or None,
    "data": lambda run: run.data or None,
    "metric": lambda run: run.metrics.get(run.main_metric),
    "seconds": lambda run: run.seconds,
    "device": lambda run: run.device or None,
}


def ordered(runs: Iterable[RunRecord], column: Column, *, reverse: bool = False) -> list[RunRecord]:
    """Sort runs by a column, equal ones by name; runs without a value come last in either order."""
    by_name = sorted(runs, key=lambda run: run.name)
    key = KEYS[column]
    known = [run for run in by_name if key(run) is not None]
    known.sort(key=key, reverse=(column in DESCENDING) != reverse)
    return known + [run for run in by_name if key(run) is None]


def list_runs(options: List) -> None:
    """Print the runs."""
    runs = ordered(chosen(options), options.sort, reverse=options.reverse)
    shown = runs[: options.limit]
    if options.json:
        for run in shown:
            print(json.dumps(run.as_json()))
        return
    if not runs:
        total = sum(1 for _ in read_runs(options.out))
        print(f"0 runs match, of {total} in {options.out}" if total else f"no runs in {options.out}")
        return
    for line in table_lines(shown):
        print(line)
    problems = [run for run in shown if run.problem]
    for run in problems:
        print(f"broken: {run.folder}: {' '.join(run.problem.split())}")
    hidden = f", {len(runs) - len(shown)} more not shown" if len(shown) < len(runs) else ""
    print(f"{len(shown)} {'run' if len(shown) == 1 else 'runs'}{hidden}")


def table_lines(runs: Iterable[RunRecord]) -> Iterator[str]:
    """Format runs as the lines of a table."""
    rows = [HEADINGS, *map(cells, runs)]
    if len(rows) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            cell.rjust(width) if heading == "seconds" else cell.ljust(width)
            for heading, cell, width in zip(HEADINGS, row, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def cells(run: RunRecord) -> tuple[str, ...]:
    """Return the cells of a run's row."""
    metric = metric_cell(run)
    seconds = "" if run.seconds is None else f"{run.seconds:.1f}"
    device = re.sub(r"^cpu: .*(?=, \d+ threads?)", "cpu", run.device)  # without the name of the processor
    date = f"{run.date:%Y-%m-%d %H:%M}" if run.date else ""
    row = (run.folder.name, run.chapter, run.program, run.data, metric, seconds, device, date, run.state)
    return tuple(shortened(cell, LONGEST_CELL) for cell in row)


def metric_cell(run: RunRecord) -> str:
    """Return the main metric with its value, the name shortened if necessary; of an unfinished run also the epoch."""
    if not run.main_metric:
        return ""
    value = run.metrics[run.main_metric]
    text = f" {value:,.0f}" if abs(value) >= 10_000 else f" {value:.4g}"
    if run.state != "finished" and "epoch" in run.metrics:
        text += f", epoch {run.metrics['epoch']:.0f}"
    return shortened(run.main_metric.replace("_", " "), LONGEST_CELL - len(text)) + text


def shortened(text: str, length: int) -> str:
    """Cut a text to a maximum length."""
    return text if len(text) <= length else text[: length - 1] + "…"
