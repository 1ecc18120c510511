"""Read run folders: who trained what, with which settings, on which data, with which result.

A run folder is `<chapter>/<program>/<time>-s<seed>`, at any depth below the folder of the runs. Symbolic links are not
followed. A folder whose files are missing or damaged is reported as broken.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from common.files import read_json
from common.run_folders.lock import is_locked

FOLDER_NAME = re.compile(r"(\d{8}-\d{6})-s\d+(-\d+)?")
"""Name of a run folder: start time, seed and, for several runs within a second, a number."""

TAIL_BYTES = 16_384
"""Bytes that are read from the end of metrics.jsonl to find its last line."""

State = Literal["finished", "running", "interrupted", "broken"]


@dataclass(frozen=True)
class RunRecord:
    """What the files of a run folder say."""

    folder: Path
    name: str
    """Path of the folder below the folder of the runs."""
    state: State
    """finished: has a summary; running: locked by a process; interrupted: neither; broken: see `problem`."""
    chapter: str
    program: str
    date: datetime | None
    """Start of the run, in local time."""
    data: str = ""
    seconds: float | None = None
    device: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """Final metrics, or those of the last epoch of an unfinished run."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings, as in config.json, with the options of the run among them."""
    versions: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why a broken folder cannot be read."""

    @property
    def main_metric(self) -> str:
        """Name of the main metric: the first test metric, else the first metric; empty if there is none."""
        if self.state != "finished":  # the last epoch: a validation metric says more than the training loss
            return next((name for name in self.metrics if name.startswith("valid_")), next(iter(self.metrics), ""))
        return next((name for name in self.metrics if name.startswith("test_")), next(iter(self.metrics), ""))

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return {
            "folder": str(self.folder),
            "state": self.state,
            "chapter": self.chapter,
            "program": self.program,
            "data": self.data,
            "metric": self.main_metric or None,
            "value": self.metrics.get(self.main_metric),
            "seconds": self.seconds,
            "device": self.device,
            "date": self.date.isoformat() if self.date else None,
            "metrics": self.metrics,
            "settings": self.settings,
            "problem": self.problem or None,
        }


def find_folders(out: Path) -> Iterator[Path]:
    """Yield the run folders below a folder, sorted by path; nothing below a run folder is read.

    Raises FileNotFoundError if the folder does not exist.
    """
    if not out.is_dir():
        raise FileNotFoundError(f"{out} is not a folder: name the folder of the runs with --out")
    pending = [out]
    while pending:
        folder = pending.pop()
        if folder != out and is_run_folder(folder):
            yield folder
            continue
        try:
            with os.scandir(folder) as entries:
                inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # removed in the meantime, or not readable
            continue
        pending += [folder / name for name in sorted(inner, reverse=True) if not name.startswith(".")]


def is_run_folder(folder: Path) -> bool:
    """Tell whether a folder is the folder of a run: by its name or, if it was renamed, by its config.json."""
    if FOLDER_NAME.fullmatch(folder.name):
        return True
    path = folder / "config.json"
    try:
        return path.is_file() and {"chapter", "program", "config"} <= set(read_json(path))
    except (OSError, ValueError, TypeError):
        return False


def read_run(folder: Path, out: Path) -> RunRecord:
    """Read a run folder below `out`; damaged files make it a broken run, never an error."""
    name = folder.relative_to(out).as_posix()
    chapter, program = ("", "", *folder.relative_to(out).parts[:-1])[-2:]
    try:
        running = _is_running(folder)
        finished = (folder / "summary.json").exists()
        record = read_json(folder / ("summary.json" if finished else "config.json"))
        chapter, program, data = _text(record, "chapter"), _text(record, "program"), record["data"]
        settings = dict(record["config"])
        settings |= settings.pop("run", {})
        known: dict[str, Any] = {"data": _text(data, "name") if data else "", "settings": settings}
        if finished:
            known |= {"seconds": float(record["seconds"]), "device": _text(record, "device")}
            known |= {"metrics": _numbers(record["metrics"]), "versions": dict(record["versions"])}
        else:
            known |= {"metrics": _last_epoch(folder)}
        state: State = "running" if running else "finished" if finished else "interrupted"
        return RunRecord(folder, name, state, chapter, program, date_of(folder), **known)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "config.json is missing" if missing else f"{type(error).__name__}: {error}"
        state = "running" if missing and _is_running(folder) else "broken"  # its config.json is being written
        return RunRecord(folder, name, state, chapter, program, date_of(folder), problem=problem)


def read_runs(out: Path) -> Iterator[RunRecord]:
    """Yield the records of all runs below a folder, one at a time."""
    for folder in find_folders(out):
        yield read_run(folder, out)


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the epochs of metrics.jsonl; lines that are damaged, or not yet complete, are omitted."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = map(_row, path.read_bytes().splitlines())
    return [row for row in rows if "epoch" in row]


def date_of(folder: Path) -> datetime | None:
    """Return the start of a run, from the name of its folder, else the date of its config.json."""
    match = FOLDER_NAME.fullmatch(folder.name)
    try:
        if match:
            return datetime.strptime(match[1], "%Y%m%d-%H%M%S")
        return datetime.fromtimestamp((folder / "config.json").stat().st_mtime).replace(microsecond=0)
    except (OSError, ValueError, OverflowError):
        return None


def find_run(name: str, out: Path) -> RunRecord:
    """Find the run whose folder is `name`, or whose path below `out` contains it.

    Raises FileNotFoundError if no run does, ValueError if several runs do.
    """
    folder = Path(name)
    if is_run_folder(folder) and folder.is_dir():
        return read_run(folder, folder.parent.parent.parent)
    paths = {path: path.relative_to(out).as_posix() for path in find_folders(out)}
    found = [path for path in paths if path.name == name] or [path for path, text in paths.items() if name in text]
    if not found:
        raise FileNotFoundError(f"no run in {out} has {name!r} in its name: python -m common.runs lists the runs")
    if len(found) > 1:
        shown = ", ".join(paths[path] for path in found[:3]) + (", ..." if len(found) > 3 else "")
        raise ValueError(f"{len(found)} runs have {name!r} in their names ({shown}): give a longer part")
    return read_run(found[0], out)


def _is_running(folder: Path) -> bool:
    """Test the lock only of folders that name a holder, or that have just been created."""
    return ((folder / ".holder.json").exists() or not (folder / "config.json").exists()) and is_locked(folder)


def _last_epoch(folder: Path) -> dict[str, float]:
    """Return the metrics of the last complete line of metrics.jsonl."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return {}
    return next((row for row in map(_row, reversed(lines)) if "epoch" in row), {}) | {}


def _row(line: bytes) -> dict[str, float]:
    try:
        return _numbers(json.loads(line))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _numbers(values: Any) -> dict[str, float]:
    numbers = {str(name): float(value) for name, value in values.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _text(record: Any, key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is not text")
    return value
