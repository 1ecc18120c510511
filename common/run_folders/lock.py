"""Lock a run folder for one process; a second process gets an error that names the first.

The operating system holds the lock (`flock`, or its counterpart on Windows) and releases it when the process ends, even
if the process is killed, so a lock cannot become stale.
"""

import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from common.files import read_json, write_json


class FolderLock:
    """Lock of one folder, held until `release` or the end of the process.

    Raises ValueError, naming the holder, if another process holds it; OSError if the folder cannot be locked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file, self._holder = folder / ".lock", folder / ".holder.json"
        self._lock = FileLock(self._file)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            message = f"{folder} is in use by {self._describe_holder()}: wait until it ends, or stop it"
            raise ValueError(message) from None
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"cannot lock {folder} ({reason}): choose a folder on another disk with --out") from error
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_json(self._holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})

    def _describe_holder(self) -> str:
        try:
            holder = read_json(self._holder)
            return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, TypeError, KeyError):  # the holder has not yet written its name
            return "another process"

    def release(self, *, forget: bool) -> None:
        """Release the folder; with `forget`, also remove the lock file of a folder that is no longer written to."""
        self._holder.unlink(missing_ok=True)
        if forget:
            with suppress(OSError):  # Windows does not remove an open file
                self._file.unlink()
        self._lock.release()


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds the lock of a folder, without creating or changing a file.

    If the lock cannot be tested, for example in the folder of another user, a named holder counts as a process.
    """
    path, holder = folder / ".lock", folder / ".holder.json"
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:
        return holder.exists()
    lock.release()
    return False
