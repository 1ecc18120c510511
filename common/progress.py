"""Progress output of a program: live bars with the time left on a terminal, plain lines elsewhere, nothing on ranks
other than 0.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from common import distributed

T = TypeVar("T")

BAR_SECONDS = 2.0
"""Seconds after which a task shows a bar; shorter ones show none."""

REFRESH_SECONDS = 0.2
"""Minimum time between two updates of the bar of a task."""

LINES = 20
"""Approximate number of epoch lines; a long training run prints only every n-th epoch."""


_bars: list[Progress] = []
"""Bars of this process on the terminal, outermost first; only the innermost one is visible."""


def console() -> Console:
    """Return a console without markup; if the output is not a terminal, it is 120 characters wide.

    While a bar is shown, the console is that of the bar, which prints above it.
    """
    if _bars:
        return _bars[-1].console
    output = Console(highlight=False, markup=False)
    return output if output.is_terminal else Console(highlight=False, markup=False, width=120)


def say(label: str, text: str) -> None:
    """Print one labelled line, as `device   cpu: AMD EPYC, 2 threads`; under torchrun only on rank 0."""
    if distributed.is_main():
        console().print(f"{label:<8} {text}", soft_wrap=True)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Format metrics as text: `valid accuracy 0.951  valid loss 0.169`."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print rows under headings: the first column left-aligned, the others right-aligned, floats with four digits."""
    if not distributed.is_main():
        return
    table = Table(title=title, box=box.SIMPLE)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    console().print(table)


def time_left(seconds: float, done: float, total: float) -> str:
    """Estimate the time left, as `1:05 left`, if `done` of `total` took some seconds; empty if nothing is done."""
    if done <= 0:
        return ""
    rest = max(0, math.ceil(seconds * (total - done) / done))
    minutes, hours = rest // 60, rest // 3_600
    return f"{hours}:{minutes % 60:02}:{rest % 60:02} left" if hours else f"{minutes}:{rest % 60:02} left"


def _show(bar: Progress) -> None:
    """Show a bar on the terminal instead of the one around it."""
    if bar.disable:
        return
    if bar not in _bars:
        for outer in _bars:
            outer.stop()
        _bars.append(bar)
    if _bars[-1] is bar:
        bar.start()


def _hide(bar: Progress) -> None:
    """Remove a bar from the terminal."""
    bar.stop()
    if bar in _bars:
        _bars.remove(bar)


def _new_bar(*columns: ProgressColumn | str, refresh: bool = False) -> Progress:
    """Make a bar that disappears when it ends; without `refresh`, no thread disturbs what is being timed."""
    output = Console(highlight=False, markup=False, quiet=not distributed.is_main())
    hidden = not output.is_terminal or threading.current_thread() is not threading.main_thread()
    return Progress(*columns, console=output, transient=True, disable=hidden, auto_refresh=refresh)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items; on a terminal, a task of more than two seconds shows a bar with the time left.

    `total` is the number of items, if they have no length.
    """
    total = _length(items) if total is None else total
    columns = (TextColumn(label, markup=False), BarColumn(bar_width=20), MofNCompleteColumn(), LEFT)
    bar = _new_bar(*columns)
    task = bar.add_task("", total=total, left="")
    with _shown_late(bar) as show:
        for number, item in enumerate(items):
            show(lambda seconds, number=number: bar.update(task, completed=number, left=_left(seconds, number, total)))
            yield item


def _length(items: object) -> int | None:
    return len(items) if isinstance(items, Sized) else None


def _left(seconds: float, done: float, total: float | None) -> str:
    return time_left(seconds, done, total) if total else ""


LEFT = TextColumn("{task.fields[left]}", markup=False)


@contextmanager
def _shown_late(bar: Progress) -> Iterator[Callable[[Callable[[float], None]], None]]:
    """Yield a function that passes the seconds so far to an update and shows the bar, at first after BAR_SECONDS."""
    began = time.perf_counter()
    due = began + BAR_SECONDS

    def show(update: Callable[[float], None]) -> None:
        nonlocal due
        now = time.perf_counter()
        if now >= due:
            due = now + REFRESH_SECONDS
            update(now - began)
            _show(bar)
            bar.refresh()

    try:
        yield show
    finally:
        _hide(bar)


@contextmanager
def download_bar(name: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts downloaded bytes; on a terminal, show them with the rate and the time left."""
    columns = (TextColumn(name, markup=False), BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn(), LEFT)
    bar = _new_bar(*columns)
    task = bar.add_task("", total=size, left="")
    done = 0
    with _shown_late(bar) as show:

        def count(bytes_read: int) -> None:
            nonlocal done
            done += bytes_read
            show(lambda seconds: bar.update(task, completed=done, left=_left(seconds, done, size)))

        yield count


class EpochBar:
    """Progress bar of the current epoch, with the time left of the training; finished epochs stay above it as lines."""

    def __init__(self, epochs: int | None, steps: int, budget: float | None = None) -> None:
        self.epochs, self.steps = epochs, steps  # epochs is None: the number is not known in advance
        self.budget = budget  # seconds of training, if they end it
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
        self._progress = _new_bar(*columns, TextColumn("{task.fields[state]}"), refresh=True)
        self._task = self._progress.add_task("", total=steps, state="")
        _show(self._progress)
        self._began, self._first = time.perf_counter(), None
        self._left = False

    @property
    def visible(self) -> bool:
        """Whether the output is a terminal."""
        return not self._progress.disable

    def stop(self) -> None:
        """Remove the bar."""
        _hide(self._progress)

    def start_epoch(self, epoch: int) -> None:
        """Reset the bar for a new epoch."""
        self._epoch = epoch
        self._first = self._first or epoch  # a resumed training starts later
        self._progress.reset(self._task, description=self._title(), state="")
        _show(self._progress)  # again, if the evaluation has shown a bar of its own

    def update(self, steps: int, loss: float, rate: str, elapsed: float = 0.0) -> None:
        """Update the number of steps, the throughput, the loss and the seconds of training."""
        left = self._time_left(steps, elapsed)
        self._progress.update(self._task, completed=steps, state=f"{rate}  loss {loss:.4g}  {left}")

    def _time_left(self, steps: int, elapsed: float) -> str:
        if self.epochs is None:
            return time_left(elapsed, elapsed, self.budget) if self.budget else ""
        first = self._first or 1
        done, total = (self._epoch - first) * self.steps + steps, (self.epochs - first + 1) * self.steps
        return time_left(time.perf_counter() - self._began, done, total)

    def end_epoch(self, rate: str, metrics: Mapping[str, float]) -> None:
        """Print the epoch's line with its first two metrics (see LINES); metrics.jsonl holds all of them."""
        self._left = self._epoch == self.epochs or self._epoch % math.ceil((self.epochs or self._epoch) / LINES) == 0
        if self._left:
            headline = format_metrics(dict(list(metrics.items())[:2]))
            steps = f"  {self.steps}/{self.steps}" if self.epochs else ""  # a time budget may end an epoch early
            line = f"{self._title()}{steps}  {rate}  {headline}"
            self._progress.console.print(line, soft_wrap=True, markup=False)

    def add(self, label: str, text: str) -> None:
        """Print a labelled line below the epoch's line, if that was printed."""
        if self._left:
            self._progress.console.print(f"{label:<8} {text}", soft_wrap=True, markup=False)

    def _title(self) -> str:
        return f"epoch {self._epoch:>{len(str(self.epochs))}}/{self.epochs}" if self.epochs else f"epoch {self._epoch}"
