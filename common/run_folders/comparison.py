"""Compare runs: the settings that differ, their metrics side by side, and their curves in one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from common.config import flag, require
from common.files import atomic_path, explain_unwritable
from common.run_folders.records import RunRecord, find_run, read_history

MOST_PANELS = 6
"""Maximum number of metrics in the figure."""

NOT_CURVES = ("epoch", "steps", "seconds")


@dataclass(frozen=True)
class Compare:
    """Compare two or more runs: settings that differ, metrics, and curves."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of the runs, or a part of each name that no other run has."""
    out: Path = Path("runs")
    """Folder of the runs."""
    picture: Path | None = None
    """PNG file of the curves. Default: comparison.png in the folder of the runs."""

    def __post_init__(self) -> None:
        require(len(self.runs) >= 2, "compare needs at least two runs", " ".join(self.runs) or "none")
        right = self.picture is None or self.picture.suffix == ".png"
        require(right, "--picture must name a file that ends with .png", self.picture)


def compare(options: Compare) -> Path | None:
    """Print the comparison; write the curves and return their path, or None if no run has logged an epoch.

    Raises FileNotFoundError or ValueError if a run is not found, is named twice, or is broken.
    """
    runs = [find_run(name, options.out) for name in options.runs]
    for number, run in enumerate(runs):
        require(run.state != "broken", f"{run.folder} cannot be compared", run.problem)
        earlier = [other.folder.resolve() for other in runs[:number]]
        require(run.folder.resolve() not in earlier, "compare needs different runs", f"{run.folder} twice")
    letters = [chr(ord("A") + number) if number < 26 else str(number + 1) for number in range(len(runs))]
    for letter, run in zip(letters, runs, strict=True):
        print(f"{letter}  {run.folder} ({run.state})")
    print_table("different settings", letters, different_settings(runs))
    print_table("metrics", letters, side_by_side([run.metrics for run in runs]))
    histories = {
        f"{letter}: {run.program}, {run.folder.name}": read_history(run.folder)
        for letter, run in zip(letters, runs, strict=True)
    }
    names = curve_names(list(histories.values()))
    if not names:
        print("no curves: no run has logged an epoch")
        return None
    from common.drawing import plots  # loads matplotlib

    path = options.picture or options.out / "comparison.png"
    with explain_unwritable(path.parent), atomic_path(path) as temporary:
        plots.save(plots.compared_curves(histories, names), temporary)
    print(f"curves: {path}")
    return path


def different_settings(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Return the settings, data, devices and versions that are not the same in all runs."""
    found = side_by_side([{"chapter": run.chapter, "program": run.program} for run in runs])
    found |= {flag(name): values for name, values in side_by_side([run.settings for run in runs]).items()}
    others = [{"loaded data": run.data, "device": run.device, **run.versions} for run in runs]
    found |= side_by_side(others)
    ignored = (flag("out"), flag("resume"))
    return {
        name: values
        for name, values in found.items()
        if name not in ignored and any(value != values[0] for value in values)
    }


def side_by_side(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each name in every entry, None where an entry does not have it."""
    names = dict.fromkeys(name for entry in entries for name in entry)
    return {name: [entry.get(name) for entry in entries] for name in names}


def curve_names(histories: Sequence[Sequence[Mapping[str, float]]]) -> list[str]:
    """Choose the metrics to draw: those of most runs first, and of these the first ones of an epoch's line."""
    logged = [dict.fromkeys(name for row in history for name in row) for history in histories]
    names = dict.fromkeys(name for entry in logged for name in entry)
    curves = [name for name in names if name not in NOT_CURVES and not name.endswith("_per_second")]
    curves.sort(key=lambda name: -sum(name in entry for entry in logged))  # a stable sort
    return curves[:MOST_PANELS]


def print_table(title: str, letters: Sequence[str], rows: Mapping[str, Sequence[Any]]) -> None:
    """Print one row per name and one column per run."""
    if not rows:
        print(f"{title}: none")
        return
    console = Console(highlight=False, markup=False)
    console = console if console.is_terminal else Console(highlight=False, markup=False, width=160)
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("")
    for letter in letters:
        table.add_column(letter, justify="right")
    for name, values in rows.items():
        table.add_row(name.replace("_", " "), *map(_shown, values))
    console.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
