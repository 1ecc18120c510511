"""Create the folder of a new run, lock that of a run to resume, and find the folders of finished runs."""

from datetime import datetime
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from common.config import RunOptions, chapter_and_name, flag
from common.files import explain_unwritable, read_json, remove_unfinished, sync_folder, write_json
from common.progress import say
from common.run_folders.lock import FolderLock


class NothingToResumeError(ValueError):
    """No run can be resumed with these settings; the message gives the reason."""


def open_folder(options: RunOptions, record: dict[str, Any]) -> FolderLock:
    """Lock the folder of a new run, or of the earlier run that --resume names or finds.

    `record` holds chapter, program, config and data. Raises ValueError if no run can be resumed or another process
    uses the folder; OSError if it cannot be written.
    """
    home = options.out / record["chapter"] / record["program"]
    if options.resume:
        try:
            if options.resume in (True, "auto"):
                return lock_for_resuming(find_resumable(home, record), record)
            return lock_for_resuming(Path(options.resume), record)
        except NothingToResumeError as error:
            if options.resume != "auto":
                raise NothingToResumeError(f"{error}; start without --resume") from error
            say("new run", str(error))
    return make_folder(home, options.seed, record)


def make_folder(home: Path, seed: int, record: dict[str, Any]) -> FolderLock:
    """Create `<time>-s<seed>` in a program's folder, lock it, and write the record to its config.json.

    Raises OSError, naming the folder and --out, if it cannot be written.
    """
    name = f"{datetime.now():%Y%m%d-%H%M%S}-s{seed}"
    with explain_unwritable(home):
        home.mkdir(parents=True, exist_ok=True)
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        lock = FolderLock(next(home / name for name in names if _create(home / name)))
        write_json(lock.folder / "config.json", record)  # after the lock: other processes find runs by this file
        sync_folder(home)
    return lock


def find_resumable(home: Path, record: dict[str, Any]) -> Path:
    """Find a program's newest unfinished run with the settings and data of the record.

    Raises NothingToResumeError, with the reason, if there is none.
    """
    configs = sorted(home.glob("*/config.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if not configs:
        raise NothingToResumeError(f"nothing to resume: {home} has no runs")
    unfinished = [path.parent for path in configs if not _is_complete(path.parent)]
    if not unfinished:
        raise NothingToResumeError(f"nothing to resume: the newest run, {configs[0].parent}, is complete")
    obstacles = {folder: _obstacle(folder, record) for folder in unfinished}
    suitable = next((folder for folder, obstacle in obstacles.items() if obstacle is None), None)
    if suitable is None:
        older = (
            f" ({len(unfinished) - 1} older unfinished run(s) cannot be resumed either)" if len(unfinished) > 1 else ""
        )
        raise NothingToResumeError(f"nothing to resume: {obstacles[unfinished[0]]}{older}")
    return suitable


def lock_for_resuming(folder: Path, record: dict[str, Any]) -> FolderLock:
    """Lock the folder of a run to resume, and remove the files that it was writing when it was killed.

    Raises NothingToResumeError if the run cannot be resumed, ValueError if another process uses it.
    """
    if not (folder / "config.json").is_file():
        raise NothingToResumeError(f"nothing to resume: {folder} is not a run folder: it has no config.json")
    lock = FolderLock(folder)
    obstacle = _obstacle(folder, record)  # after the lock: another process could complete the run before
    if obstacle:
        lock.release(forget=_is_complete(folder))
        raise NothingToResumeError(f"nothing to resume: {obstacle}")
    remove_unfinished(folder)
    return lock


def _is_complete(folder: Path) -> bool:
    return (folder / "summary.json").exists()


def _obstacle(folder: Path, record: dict[str, Any]) -> str | None:
    """Return why a run cannot be resumed with the record's settings, or None if it can."""
    path = folder / "config.json"
    if _is_complete(folder):
        return f"the run {folder} is complete"
    try:
        found = read_json(path)
        then, now = _settings(found), _settings(record)
        other = (found["chapter"], found["program"]) != (record["chapter"], record["program"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        return f"{path} is not the config.json of a run ({type(error).__name__})"
    if other:
        return f"{folder} is a run of {found['chapter']}.{found['program']}"
    names = {**then, **now}
    different = [f"{n} was {then.get(n)} and is now {now.get(n)}" for n in names if then.get(n) != now.get(n)]
    if different:
        return f"{folder} was started with other settings: {'; '.join(different)}"
    return None


def finished_runs(out: Path, program: ModuleType) -> list[Path]:
    """List the finished runs of a program that have weights, the newest first."""
    chapter, name = chapter_and_name(program.__name__)
    summaries = (out / chapter / name).glob("*/summary.json")
    newest_first = sorted(summaries, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.parent for path in newest_first if (path.parent / "model.safetensors").exists()]


def newest_run(out: Path, *programs: ModuleType) -> Path:
    """Find the newest finished run of a program, or of one of several programs.

    Raises FileNotFoundError if there is none.
    """
    finished = [folder for program in programs for folder in finished_runs(out, program)]
    if not finished:
        chapter, name = chapter_and_name(programs[0].__name__)
        home = out / chapter / name
        raise FileNotFoundError(f"{home} has no finished run: train one with python -m {chapter}.train {name}")
    return max(finished, key=lambda folder: (folder / "summary.json").stat().st_mtime_ns)


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a record that must match for a resume, in one dictionary."""
    config = dict(record["config"])
    options = {name: value for name, value in config.pop("run").items() if name not in ("resume", "out", "tensorboard")}
    return {**{flag(name): value for name, value in (config | options).items()}, "the data": record["data"]}


def _create(folder: Path) -> bool:
    """Create a folder; return False if it exists already."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
