"""Solution: another name, then one renaming.

Until the renaming the old file is untouched, after it the new one is complete. `common/files.py` also flushes the file
to the disk before the renaming, because a power failure could otherwise leave the new name with an empty file.
"""

from typing import Any


def save(disk: Any, name: str, text: str) -> None:
    """Write a text to a file of the disk."""
    disk.write(f"{name}.unfinished", text)
    disk.rename(f"{name}.unfinished", name)
