"""Write files atomically: to a temporary name, flushed to disk, then renamed."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished-"
"""Prefix of temporary names."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(OSError):
    """Not enough disk space for a file; the message names the file and what to do."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` if the block succeeds, else remove it.

    File and folder are flushed to disk, so that even a power failure does not leave a partial file. Raises
    DiskFullError if the disk is full.
    """
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)  # mkstemp makes private files
            _sync_file(temporary)  # first, or the new name could reach the disk before the content
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, if the system supports it."""
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot fsync a folder
            raise
    finally:
        os.close(handle)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of a killed process from a folder; no other process may be writing there."""
    for path in folder.rglob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Raise DiskFullError, naming the file and what to do, if the block fails because the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, DiskFullError):
            raise
        raise full_disk(path, error.errno) from error


def full_disk(path: Path, number: int = errno.ENOSPC) -> DiskFullError:
    """Build the error for a file that does not fit on the disk."""
    remedy = "free some space or choose another folder, then run the command again; resume a training with --resume"
    return DiskFullError(f"no space to write {path} ({os.strerror(number)}): {remedy}")


@contextmanager
def explain_unwritable(folder: Path) -> Iterator[None]:
    """Raise OSError, naming the folder and --out, if the block cannot write below an output folder."""
    try:
        yield
    except DiskFullError:
        raise
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raise ValueError, naming the file, if it is not valid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise ValueError(f"{path} is not valid JSON: {error}") from error
