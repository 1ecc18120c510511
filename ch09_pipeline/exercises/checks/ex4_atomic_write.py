"""Check of exercise 4: write a file atomically. The function runs on a simulated disk and is killed in some step."""

from collections.abc import Callable
from typing import Any

from common.exercises.exercise import Arguments, Case, Exercise

OLD, NEW = "old text", "new text"


class Killed(BaseException):
    """The process is killed. Not an Exception, so that `except Exception` does not catch it."""


class SimulatedDisk:
    """Files by name; the process is killed in step number `killed_in`, counted from 1."""

    def __init__(self, files: dict[str, str], killed_in: int | None) -> None:
        self.files, self.killed_in, self.steps = dict(files), killed_in, 0

    def _is_last(self) -> bool:
        self.steps += 1
        return self.steps == self.killed_in

    def write(self, name: str, text: str) -> None:
        """Write a file; a killed process leaves the first half."""
        last = self._is_last()
        self.files[name] = text[: len(text) // 2] if last else text
        if last:
            raise Killed

    def copy(self, old: str, new: str) -> None:
        """Copy a file."""
        self.write(new, self._content(old))

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        if self._is_last():
            raise Killed
        self.files[new] = self._content(old)
        if old != new:
            del self.files[old]

    def delete(self, name: str) -> None:
        """Remove a file."""
        if self._is_last():
            raise Killed
        self._content(name)
        del self.files[name]

    def _content(self, name: str) -> str:
        if name not in self.files:
            raise FileNotFoundError(f"the disk has no file {name}")
        return self.files[name]


def content_after(function: Callable[..., None], arguments: Arguments) -> str:
    """Describe the file after the function, which is killed in a step, or not at all."""
    exists, step = arguments["exists"], arguments["killed_in_step"]
    disk = SimulatedDisk({"card.json": OLD} if exists else {}, step)
    try:
        function(disk, "card.json", NEW)
    except Killed:
        pass
    else:
        step = None  # it ended before the step
    content = disk.files.get("card.json")
    if step is None:
        return content or "no file"
    complete = {NEW} | ({OLD} if exists else {None})
    return "the old or the new text" if content in complete else content or "no file"


def renamed(disk: Any, name: str, text: str) -> None:
    """Write to another name first."""
    disk.write("temporary", text)
    disk.rename("temporary", name)


def direct(disk: Any, name: str, text: str) -> None:
    """Typical mistake: write the file itself."""
    disk.write(name, text)


def copied(disk: Any, name: str, text: str) -> None:
    """Typical mistake: copy the complete file."""
    disk.write("temporary", text)
    disk.copy("temporary", name)


def deleted_first(disk: Any, name: str, text: str) -> None:
    """Typical mistake: make room for the new file."""
    disk.write("temporary", text)
    if name in disk.files:
        disk.delete(name)
    disk.rename("temporary", name)


def with_backup(disk: Any, name: str, text: str) -> None:
    """Typical mistake: keep the old file under another name, then write the file itself."""
    if name in disk.files:
        disk.copy(name, "backup")
    disk.write(name, text)


def unfinished(disk: Any, name: str, text: str) -> None:  # noqa: ARG001
    """Typical mistake: the new file keeps its temporary name."""
    disk.write("temporary", text)


def killed(step: int | None, *, exists: bool = True) -> Arguments:
    """Arguments of a run."""
    return {"exists": exists, "killed_in_step": step}


ATOMIC_WRITE = Exercise(
    file="ex4_atomic_write",
    function="save",
    reference=renamed,
    call=content_after,
    outcome="a reader finds",
    cases=(
        Case(killed(None, exists=False), "a new file"),
        Case(killed(None), "a file that exists is replaced"),
        Case(killed(1), "killed in the first step: is the file complete?"),
        Case(killed(2), "killed in the second step: is the file complete?"),
        Case(killed(3), "killed in the third step: is the file complete?"),
        Case(killed(4), "killed in the fourth step: is the file complete?"),
        Case(killed(1, exists=False), "killed in the first step: no file is better than a half"),
        Case(killed(2, exists=False), "killed in the second step: no file is better than a half"),
    ),
    hint="Only one of the four operations changes a file all at once. Which one may touch the file of the right name?",
    mistakes={
        "a killed process leaves a half: write under another name first": direct,
        "copying writes the file again and may leave a half; `rename` replaces it all at once": copied,
        "between deleting and renaming there is no file; `rename` replaces the old one itself": deleted_first,
        "a backup does not help a reader, who finds half of the file": with_backup,
        "the new text must get the name of the file at the end": unfinished,
    },
)
