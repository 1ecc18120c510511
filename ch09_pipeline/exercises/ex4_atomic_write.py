"""Write a file atomically (15 minutes)

A process can be killed at any time. Then a reader must find either the complete old content of a file or the complete
new one: not a half, and not no file if there was one before. `disk` has

    disk.write(name, text)      write a file; if the process is killed meanwhile, only a half is written
    disk.rename(old, new)       give a file another name and replace a file of this name, all at once
    disk.copy(old, new)         copy a file; as with `write`, a half may remain
    disk.delete(name)           remove a file

Write `text` to the file `name` safely. Files with other names may remain after a crash.

Check: python -m ch09_pipeline.exercises 4
"""

from typing import Any


def save(disk: Any, name: str, text: str) -> None:
    """Write a text to a file of the disk."""
    raise NotImplementedError
