"""What a person sees of a running program: a live bar on a terminal, plain lines elsewhere, nothing on other ranks."""

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from common import distributed

LINES = 20
"""A longer training prints every n-th epoch, so that about this many lines remain."""


def console() -> Console:
    """Give a console that writes plainly; where the output is no terminal, tables get the room they need."""
    output = Console(highlight=False, markup=False)
    return output if output.is_terminal else Console(highlight=False, markup=False, width=120)


def say(label: str, text: str) -> None:
    """Print one labelled line, as `device   cpu: AMD EPYC, 2 threads`; under torchrun only once."""
    if distributed.is_main():
        console().print(f"{label:<8} {text}", soft_wrap=True)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Write metrics as people read them: `valid accuracy 0.951  valid loss 0.169`."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print rows under headings; the first column stands left, the others right, floats with four digits."""
    if not distributed.is_main():
        return
    table = Table(title=title, box=box.SIMPLE)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    console().print(table)


class EpochBar:
    """The bar of the running epoch; finished epochs stay above it as lines."""

    def __init__(self, epochs: int | None, steps: int) -> None:
        self.epochs, self.steps = epochs, steps  # without a number of epochs, the run ends when it ends
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
        """Take the bar away."""
        self._progress.stop()

    def start_epoch(self, epoch: int) -> None:
        """Empty the bar."""
        self._epoch = epoch
        self._progress.reset(self._task, description=self._title(), state="")

    def update(self, steps: int, loss: float, rate: str) -> None:
        """Show how far the epoch is."""
        self._progress.update(self._task, completed=steps, state=f"{rate}  loss {loss:.4g}")

    def end_epoch(self, rate: str, metrics: Mapping[str, float]) -> None:
        """Leave a line that says how the epoch went, by its first two measures; metrics.jsonl holds them all."""
        self._left = self._epoch == self.epochs or self._epoch % math.ceil((self.epochs or self._epoch) / LINES) == 0
        if self._left:
            headline = format_metrics(dict(list(metrics.items())[:2]))
            steps = f"  {self.steps}/{self.steps}" if self.epochs else ""  # the clock may have cut the epoch short
            line = f"{self._title()}{steps}  {rate}  {headline}"
            self._progress.console.print(line, soft_wrap=True, markup=False)

    def add(self, label: str, text: str) -> None:
        """Leave a labelled line below that of the epoch, if the epoch has left one."""
        if self._left:
            self._progress.console.print(f"{label:<8} {text}", soft_wrap=True, markup=False)

    def _title(self) -> str:
        return f"epoch {self._epoch:>{len(str(self.epochs))}}/{self.epochs}" if self.epochs else f"epoch {self._epoch}"
