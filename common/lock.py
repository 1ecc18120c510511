"""The lock of a run folder: one process writes to it, and a second one is refused by the name of the first.

The operating system holds the lock (`flock`, and its counterpart on Windows), so it ends with its process, however that
ends: a killed process leaves no stale lock.
"""

import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from common.files import read_json, write_json


class FolderLock:
    """The lock of one folder, held until `release` or the end of the process.

    Raises ValueError, naming the holder, where another run has it; OSError where the folder cannot be locked.
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
        except (OSError, ValueError, TypeError, KeyError):  # it has the lock and has not yet written its name
            return "another process"

    def release(self, *, forget: bool) -> None:
        """Let the next process have the folder; `forget` removes the lock's file too, where no process will want it."""
        self._holder.unlink(missing_ok=True)
        if forget:
            with suppress(OSError):  # Windows does not remove an open file
                self._file.unlink()
        self._lock.release()
