"""Where a run writes: a folder of its own, or the one of the run that it goes on with; and where it is found again."""

from datetime import datetime
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from common.config import flag
from common.files import explain_unwritable, read_json, write_json


def make_folder(home: Path, seed: int, record: dict[str, Any]) -> Path:
    """Make `<time>-s<seed>` in a program's home, with the record of what was asked as its config.json.

    Raises OSError, naming the home and the flag, where it cannot be written.
    """
    name = f"{datetime.now():%Y%m%d-%H%M%S}-s{seed}"
    with explain_unwritable(home):
        home.mkdir(parents=True, exist_ok=True)
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        folder = next(home / name for name in names if _is_new(home / name))
        write_json(folder / "config.json", record)
    return folder


def find_resumable(home: Path, record: dict[str, Any]) -> Path:
    """Find a program's newest run, to go on with.

    Raises FileNotFoundError where there is none; ValueError where it is complete, or was started with other settings
    or data than the record says.
    """
    configs = list(home.glob("*/config.json"))
    if not configs:
        raise FileNotFoundError(f"nothing to resume: there is no run in {home}; start without --resume")
    newest = max(configs, key=lambda path: path.stat().st_mtime_ns)
    folder = newest.parent
    if (folder / "summary.json").exists():
        raise ValueError(f"nothing to resume: the newest run, {folder}, is complete; start without --resume")
    try:
        then, now = _settings(read_json(newest)), _settings(record)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{newest} is no run's config.json: start without --resume") from error
    names = {**then, **now}
    different = [f"{n} was {then.get(n)} and is now {now.get(n)}" for n in names if then.get(n) != now.get(n)]
    if different:
        raise ValueError(f"{folder} was started with other settings and cannot go on: {'; '.join(different)}")
    return folder


def finished_runs(out: Path, program: ModuleType) -> list[Path]:
    """List the finished runs of a program that have weights, the newest first."""
    chapter, _, name = program.__name__.rpartition(".")
    summaries = (out / chapter / name).glob("*/summary.json")
    newest_first = sorted(summaries, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.parent for path in newest_first if (path.parent / "model.safetensors").exists()]


def newest_run(out: Path, program: ModuleType) -> Path:
    """Find the newest finished run of a program, to ask what it has learned.

    Raises FileNotFoundError where there is none.
    """
    finished = finished_runs(out, program)
    if not finished:
        chapter, _, name = program.__name__.rpartition(".")
        home = out / chapter / name
        raise FileNotFoundError(f"there is no finished run in {home}: train one with python -m {chapter}.train {name}")
    return finished[0]


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """Flatten a record to what two runs must share for one to go on with the other."""
    config = dict(record["config"])
    options = {name: value for name, value in config.pop("run").items() if name not in ("resume", "out")}
    return {**{flag(name): value for name, value in (config | options).items()}, "the data": record["data"]}


def _is_new(folder: Path) -> bool:
    """Make a folder; tell whether it was not there before."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
