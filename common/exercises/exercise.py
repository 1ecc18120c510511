"""An exercise: the file with the task, the reference, and the cases to try, from simple to hard."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

Arguments = Mapping[str, Any]
"""Arguments of a function by name."""


@dataclass(frozen=True)
class Case:
    """Arguments with which the function is called."""

    arguments: Arguments
    note: str = ""
    """What the case tests: printed if the result is wrong."""


@dataclass(frozen=True)
class Verdict:
    """Result of a check."""

    status: Literal["open", "wrong", "right"]
    message: str
    note: str = ""
    """What the counterexample tests, or an explanation of the mistake."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Measured values of a right function, if it is measured."""


@dataclass(frozen=True)
class Exercise:
    """Function that the reader writes or corrects, and how it is checked.

    The results are compared with those of `reference`: first for `cases`, then for random arguments of growing size.
    The cases are ordered from simple to hard, so the first wrong result is a small counterexample.
    """

    file: str
    """Name of the module with the task, as ex1_broadcasting; the solution has the same name in solutions/."""
    function: str
    """Name of the function in this module."""
    reference: Callable[..., Any]
    """Function that computes the expected result in a different way than the solution, for example by autograd."""
    cases: tuple[Case, ...]
    hint: str
    sample: Callable[[Random, int], Arguments] | None = None
    """Function of a generator and a size (1, 2, ...) that returns random arguments."""
    sample_note: str = ""
    """What the random arguments test: printed if a result is wrong."""
    results: tuple[str, ...] = ()
    """Names of the elements of the result, if it is a tuple."""
    mistakes: Mapping[str, Callable[..., Any]] | None = None
    """Typical wrong functions by their explanation, which is printed if the reader's function returns the same."""
    tolerance: float = 1e-9
    """Largest accepted error, relative to the larger of 1 and the largest finite expected number."""
    call: Callable[[Callable[..., Any], Arguments], Any] | None = None
    """How to call the function with the arguments of a case. Default: as keyword arguments."""
    outcome: str = "you return"
    """What the message says before a wrong result."""

    @property
    def number(self) -> int:
        """Return the number in the name of the file."""
        return int(self.file.removeprefix("ex").partition("_")[0])


def compared_with_nothing(**_arguments: Any) -> None:
    """Reference of an exercise that is measured."""


@dataclass(frozen=True, kw_only=True)
class MeasuredExercise(Exercise):
    """Function whose result is measured instead of compared with a reference, for example a network that is trained.

    Verdicts are kept in a file, so that the table needs no training; the right ones form a leaderboard.
    """

    reference: Callable[..., Any] = compared_with_nothing
    cases: tuple[Case, ...] = ()
    measure: Callable[[Callable[..., Any]], Verdict]
    """Function of the reader's function that returns the verdict with its scores."""
    order: Callable[[Mapping[str, float]], Any]
    """Sort key of the scores on the leaderboard; the smallest one is first."""
    seconds: float = 60.0
    """Time limit."""


@dataclass(frozen=True)
class Task:
    """Text of an exercise, from the docstring of its file."""

    title: str
    minutes: int
    text: str


def read_task(path: Path) -> Task:
    """Read the docstring of an exercise, which starts with `Title (10 minutes)`, even if the code below has errors.

    Without such a docstring, the title is the name of the file.
    """
    source = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.match(r'"""(?P<text>(?P<title>.+) \((?P<minutes>\d+) minutes\)\n.*?)"""', source, re.S)
    if found is None or "\n" in found["title"]:
        return Task(path.stem, 0, "")
    return Task(found["title"], int(found["minutes"]), found["text"].strip())
