"""Remove old runs: only complete run folders that no process uses, and never what symbolic links point to."""

import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common.run_folders.listing import Filter, chosen, ordered, table_lines
from common.run_folders.lock import FolderLock
from common.run_folders.records import FOLDER_NAME, RunRecord

UNITS = {"min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
"""Seconds of each unit of --older-than."""


@dataclass(frozen=True)
class Remove(Filter):
    """Remove runs whose files have not changed for some time. Running and broken runs are kept."""

    older_than: Annotated[str, tyro.conf.arg(metavar="TIME")] = ""
    """Minimum time since the last change in the folder, as 30d: a number and min, h, d (days) or w (weeks)."""
    yes: bool = False
    """Remove without asking."""

    def __post_init__(self) -> None:
        self.seconds()

    def seconds(self) -> float:
        """Return --older-than in seconds; raise ValueError if it is not a time."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(min|h|d|w)", self.older_than)
        if not match:
            units = "a number and min, h, d or w, as 30d"
            raise ValueError(f"--older-than must be {units}, got {self.older_than or 'nothing'}")
        return float(match[1]) * UNITS[match[2]]


def remove_runs(options: Remove) -> list[Path]:
    """List the runs to remove and their size, ask, and remove them; return the folders that were removed."""
    limit = time.time() - options.seconds()
    old = [run for run in chosen(options) if run.state == "broken" or last_change(run.folder) < limit]
    removable = ordered((run for run in old if is_removable(run)), "date")
    kept = [run for run in old if not is_removable(run) and run.state in ("broken", "running")]
    for run in kept:
        print(f"kept: {run.folder} is {run.state}" + f" ({' '.join(run.problem.split())})" * bool(run.problem))
    if not removable:
        print(f"no run to remove: none is older than {options.older_than} and matches the options")
        return []
    for line in table_lines(removable):
        print(line)
    total = f"{len(removable)} run folder{'s' * (len(removable) > 1)}, {megabytes(sum(map(size_of, removable)))}"
    if not options.yes:
        if not sys.stdin.isatty():
            raise ValueError(f"{total}: add --yes to remove them without being asked")
        if input(f"remove {total}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return []
    removed = [run.folder for run in removable if remove_folder(run.folder)]
    print(f"removed {len(removed)} of {total}")
    return removed


def is_removable(run: RunRecord) -> bool:
    """Tell whether a folder is a run that has ended, in the place and with the name that its program gave it."""
    place = run.folder.resolve().parts
    named = FOLDER_NAME.fullmatch(run.folder.name) is not None and place[-3:-1] == (run.chapter, run.program)
    return named and run.state in ("finished", "interrupted")


def last_change(folder: Path) -> float:
    """Return the time of the newest change of a folder or of a file in it, in seconds since 1970."""
    times = [folder.stat(follow_symlinks=False).st_mtime]
    with os.scandir(folder) as entries:
        times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(times)


def remove_folder(folder: Path) -> bool:
    """Remove a run folder under its lock; return False, and print why, if that is not possible.

    config.json is the last file to go: until then, a removal that was cut short can be repeated.
    """
    try:
        lock = FolderLock(folder)
        try:
            for path in folder.iterdir():
                if path.name not in ("config.json", ".lock", ".holder.json"):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            (folder / "config.json").unlink()
        finally:
            lock.release(forget=True)
        folder.rmdir()
    except (OSError, ValueError) as error:
        print(f"kept: {folder}: {error}")
        return False
    return True


def size_of(run: RunRecord) -> int:
    """Return the bytes of all files of a run; symbolic links count as themselves."""
    return sum((Path(root) / name).lstat().st_size for root, _, names in os.walk(run.folder) for name in names)


def megabytes(size: int) -> str:
    """Format a number of bytes."""
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
