"""Progress output of a program: a live bar on a terminal, plain lines elsewhere, nothing on ranks other than 0."""

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from common import distributed

LINES = 20
"""Approximate number of epoch lines; a long training run prints only every n-th epoch."""


def console() -> Console:
    """Return a console without markup; if the output is not a terminal, it is 120 characters wide."""
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


class EpochBar:
    """Progress bar of the current epoch; finished epochs stay above it as lines."""

    def __init__(self, epochs: int | None, steps: int) -> None:
        self.epochs, self.steps = epochs, steps  # epochs is None: the number is not known in advance
        console = Console(highlight=False, quiet=not distributed.is_main())
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=steps, state="")
        self._progress.start()
        self._left = False

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def start_epoch(self, epoch: int) -> None:
        """Reset the bar for a new epoch."""
        self._epoch = epoch
        self._progress.reset(self._task, description=self._title(), state="")

    def update(self, steps: int, loss: float, rate: str) -> None:
        """Update the number of steps, the throughput and the loss."""
        self._progress.update(self._task, completed=steps, state=f"{rate}  loss {loss:.4g}")

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
