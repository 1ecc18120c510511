"""Files that are whole or absent: written under a temporary name, brought to the disk, then renamed."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished-"
"""How the temporary names begin."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(OSError):
    """No room for a file; the message names the file and the remedy."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it into place if the block succeeds, remove it if not.

    File and folder are on the disk when the block ends, so that not even a power failure leaves half a file. Raises
    DiskFullError where there is no room.
    """
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)  # mkstemp makes private files
            _sync_file(temporary)  # before the rename: else the new name can reach the disk without its content
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk; where the system cannot do that, they follow in time."""
    if os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no fsync of a folder
            raise
    finally:
        os.close(handle)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in a folder; nobody else may be writing there."""
    for path in folder.rglob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Let a block that writes a file fail with the file's name and the remedy where there is no room for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, DiskFullError):
            raise
        raise full_disk(path, error.errno) from error


def full_disk(path: Path, number: int = errno.ENOSPC) -> DiskFullError:
    """Make the error that says that there is no room for a file, and what to do."""
    remedy = "make room there or choose another folder, then run the command again; a training goes on with --resume"
    return DiskFullError(f"no room to write {path} ({os.strerror(number)}): {remedy}")


@contextmanager
def explain_unwritable(folder: Path) -> Iterator[None]:
    """Let a block that writes below an output folder fail with what cannot be written and the flag that chooses it."""
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
    """Read JSON; a file that is not JSON is named in the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or lists within lists without end
        raise ValueError(f"{path} is not valid JSON: {error}") from error
