"""The tour: run the core programs of every chapter briefly, and write one table and one self-contained report.

python tour.py                          # embedded data, small budgets: a minute and a half on two cores
python tour.py --chapters 3,5           # some chapters only
python tour.py --jobs 1                 # one program after the other
python tour.py --full                   # real data and the programs' own settings, one after the other: hours
python tour.py --compare                # also time the training steps on every device of this machine
"""

import contextlib
import importlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from common.cli import one_line_errors, parse
from common.config import require
from common.files import explain_unwritable, write_text
from companion import tour_visit
from companion.tour_stops import STOPS, Stop
from companion.tour_visit import Request, Visit, figure, first_line
from companion.tour_workers import Workers

ROOT = Path(__file__).parents[1]
TEMPLATE = Path(__file__).with_name("tour.html")
MOST_WORKERS = 8
"""Maximum default number of workers: the longest stop takes about an eighth of the total time."""


@dataclass(frozen=True)
class Options:
    """Flags of the tour."""

    chapters: str = ""
    """Numbers of the chapters to visit, as in 3,5; all of them if empty."""
    full: bool = False
    """Real data and the programs' own settings, instead of embedded data and small budgets: hours on a CPU."""
    compare: bool = False
    """Also time the training steps of these chapters on every device of this machine."""
    jobs: int | None = None
    """Number of programs that run at the same time, each on one CPU thread; by default one per core, up to 8, and 1
    with --full. Programs that measure throughput run alone at the end. With 1, programs choose their threads."""
    device: str = "auto"
    """Device: auto (the GPU, if there is one), cpu, cuda, cuda:1 or mps."""
    out: Path = Path("runs")
    """Folder in which tour/<time>/, with the report and all runs, is created."""

    def __post_init__(self) -> None:
        require(self.jobs is None or 1 <= self.jobs <= 64, "--jobs must be between 1 and 64", self.jobs)

    def stops(self) -> list[Stop]:
        """Return the stops of the chosen chapters; raise ValueError if a chapter has none."""
        there = sorted({stop.chapter for stop in STOPS})
        words = self.chapters.replace(",", " ").split()
        unknown = [word for word in words if not word.isdigit() or int(word) not in there]
        if unknown:
            raise ValueError(
                f"--chapters: unknown chapter {', '.join(unknown)}; choose from {', '.join(map(str, there))}"
            )
        chosen = [stop for stop in STOPS if not words or stop.chapter in map(int, words)]
        return [stop for stop in chosen if sys.platform != "win32" or not stop.posix]

    def workers(self, stops: int) -> int:
        """Return the number of processes for a number of stops."""
        return min(self.jobs or (1 if self.full else min(os.cpu_count() or 1, MOST_WORKERS)), stops)


def console() -> Console:
    """Return a console without markup; if the output is not a terminal, it is 140 characters wide."""
    output = Console(highlight=False, markup=False)
    return output if output.is_terminal else Console(highlight=False, markup=False, width=140)


def say(label: str, text: str) -> None:
    """Print one labelled line (`common.progress.say` loads torch, which only the workers need)."""
    console().print(f"{label:<8} {text}", soft_wrap=True)


def table_of(visits: Sequence[Visit], running: Sequence[Stop] = ()) -> Table:
    """Build a table of the visits, with a line of the running stops."""
    table = Table(box=box.SIMPLE, caption=f"running: {', '.join(stop.title for stop in running)}" if running else None)
    table.add_column("ch", justify="right")
    for heading in ("program", "data", "result", "baseline"):
        table.add_column(heading)
    table.add_column("seconds", justify="right")
    table.add_column("device")
    for visit in visits:
        device, seconds = visit.device.partition(":")[0], f"{visit.seconds:.1f}"
        table.add_row(
            str(visit.stop.chapter), visit.stop.title, visit.data, visit.result, visit.baseline, seconds, device
        )
    return table


@contextlib.contextmanager
def live_table(visits: list[Visit], workers: Workers) -> Iterator[Callable[[], None]]:
    """Update the table on the terminal while it grows; if the output is not a terminal, print it once at the end."""
    output = console()
    if not output.is_terminal:
        yield lambda: None
        output.print(table_of(visits))
        return
    with Live(console=output, get_renderable=lambda: table_of(visits, workers.at_work()), refresh_per_second=2) as live:
        yield live.refresh


@dataclass(frozen=True)
class Chapter:
    """A chapter in the report: title, idea (first paragraph of its README) and visits."""

    number: int
    title: str
    idea: str
    visits: list[Visit]


def chapters_of(visits: Sequence[Visit]) -> list[Chapter]:
    """Group the visits by chapter."""
    found: dict[str, list[Visit]] = {}
    for visit in visits:
        found.setdefault(visit.stop.module.partition(".")[0], []).append(visit)
    return [
        Chapter(
            number=group[0].stop.chapter,
            title=first_line(importlib.import_module(package).__doc__).rstrip("."),
            idea=idea_of((ROOT / package / "README.md").read_text(encoding="utf-8")),
            visits=group,
        )
        for package, group in found.items()
    ]


def idea_of(readme: str) -> str:
    """Return the first paragraph below a README's title, with links replaced by their text."""
    paragraphs = readme.split("\n\n")
    title = next(place for place, paragraph in enumerate(paragraphs) if paragraph.startswith("# "))
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", paragraphs[title + 1]).replace("\n", " ")


@dataclass(frozen=True)
class Report:
    """Contents of the report besides the visits."""

    machine: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    workers: int
    timings: Sequence[Any] = ()
    """Timings of training steps on every device."""
    devices_picture: tour_visit.Picture | None = None
    exercises: Sequence[tour_visit.Exercises] = ()
    """Progress in the exercises of the visited chapters."""


def write_report(path: Path, visits: Sequence[Visit], about: Report) -> None:
    """Write the report: one HTML page that contains its pictures and loads nothing from the network."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = figure
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    date = f"{datetime.now():%d %B %Y, %H:%M}"
    write_text(path, page.render(chapters=chapters_of(visits), date=date, **vars(about)))


def take(stops: Sequence[Stop], visits: list[Visit], workers: Workers, request: Request, *, in_order: bool) -> None:
    """Visit the stops, those that measure throughput alone at the end; keep the visits in the order of the stops."""
    with live_table(visits, workers) as refresh:
        together = [stop for stop in stops if in_order or not stop.alone]
        groups = [together, *([stop] for stop in stops if stop not in together)]
        for group in groups:
            for visit in workers.visit(group, request, in_order=in_order):
                visits.append(visit)
                visits[:] = sorted(
                    visits, key=lambda visit: stops.index(visit.stop)
                )  # atomic, for the refreshing thread
                refresh()


def tour(options: Options) -> int:
    """Visit every stop; return how many failed."""
    start = time.perf_counter()
    stops = options.stops()
    folder = options.out / "tour" / f"{datetime.now():%Y%m%d-%H%M%S}"
    with explain_unwritable(folder):
        folder.mkdir(parents=True)
    count = options.workers(len(stops))
    request = Request(options.full, options.device, None if count == 1 else 1, folder)
    data = "real data if available" if options.full else "embedded data"
    together = f"{count} at a time" if count > 1 else "one after the other"
    say("tour", f"{len(stops)} stops on {data}, {together}; the output of the programs is in {folder / 'printed'}")
    visits: list[Visit] = []
    with Workers(count, options.device) as workers:
        try:
            about = workers.get_ready()
        except ValueError:
            folder.rmdir()
            raise
        take(stops, visits, workers, request, in_order=count == 1)
        seconds = time.perf_counter() - start
        packages = list(dict.fromkeys(stop.module.partition(".")[0] for stop in stops))
        exercises = workers.ask(tour_visit.exercises_of, packages)
        report = Report(**about, seconds=seconds, workers=count, exercises=exercises)
        write_report(folder / "index.html", visits, report)
        if options.compare:  # after the report, which a failing device then does not affect
            modules = [stop.module for stop in stops]
            timings, picture = workers.ask(tour_visit.compare_devices, modules, folder)
            if timings:
                from common import benchmark

                benchmark.print_table(timings)
                compared = Report(**{**vars(report), "timings": timings, "devices_picture": picture})
                write_report(folder / "index.html", visits, compared)
    failed = sum(bool(visit.error) for visit in visits)
    say("done", f"{len(visits) - failed} of {len(visits)} stops succeeded in {report.seconds:.0f} s")
    solved, total = (sum(getattr(chapter, name) for chapter in exercises) for name in ("solved", "total"))
    following = next((f"; next: {chapter.command}" for chapter in exercises if chapter.command), "")
    if total:
        say("solved", f"{solved} of {total} exercises{following}")
    size = (folder / "index.html").stat().st_size / 1e6
    say("report", f"{folder / 'index.html'} ({size:.1f} MB, opens in any browser)")
    return failed


def main(arguments: Sequence[str] | None = None, prog: str = "python tour.py") -> None:
    """Read the flags and run the tour; exit with the number of failed stops."""
    words = sys.argv[1:] if arguments is None else arguments
    with one_line_errors():
        options = parse(Options, words, prog=prog, description=first_line(__doc__))
        sys.exit(min(tour(options), 100))
