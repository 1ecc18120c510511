"""The tour: every chapter's core programs for a moment, in one table and one report that needs no network to read.

python tour.py                          # embedded data, small budgets
python tour.py --chapters 3,5           # some chapters only
python tour.py --full                   # real data and the programs' own settings: hours
python tour.py --compare                # and the training steps on every device of this machine, side by side
"""

import base64
import contextlib
import importlib
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from rich import box
from rich.live import Live
from rich.table import Table

from common import benchmark
from common import device as devices
from common.cli import one_line_errors, parse
from common.config import command_line
from common.files import atomic_path, explain_unwritable, read_json, write_text
from common.progress import console, say
from tour_stops import STOPS, Stop

ROOT = Path(__file__).parent
TEMPLATE = ROOT / "tour.html"
MIME = {".png": "image/png", ".gif": "image/gif"}


@dataclass(frozen=True)
class Options:
    """Flags of the tour."""

    chapters: str = ""
    """Numbers of the chapters to visit, as in 3,5; all of them if empty."""
    full: bool = False
    """Real data and the programs' own settings, instead of embedded data and small budgets: hours on a CPU."""
    compare: bool = False
    """Time the training steps of these chapters on every device of this machine as well."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda, cuda:1 or mps."""
    out: Path = Path("runs")
    """Folder that receives tour/<time>/ with the report and every run."""

    def stops(self) -> list[Stop]:
        """Give the stops of the chosen chapters; raise ValueError where one has none."""
        there = sorted({stop.chapter for stop in STOPS})
        words = self.chapters.replace(",", " ").split()
        unknown = [word for word in words if not word.isdigit() or int(word) not in there]
        if unknown:
            raise ValueError(f"--chapters: no chapter {', '.join(unknown)}; there are {', '.join(map(str, there))}")
        return [stop for stop in STOPS if not words or stop.chapter in map(int, words)]


@dataclass
class Visit:
    """What happened at a stop."""

    stop: Stop
    idea: str
    command: str
    result: str = ""
    """The measure that sums the stop up, or that it failed."""
    baseline: str = ""
    """What that is compared with."""
    data: str = ""
    device: str = ""
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    figures: tuple[tuple[str, str], ...] = ()
    """Names of pictures and films, and each as a data: address."""
    printed: str = ""
    error: str = ""


def visit(stop: Stop, options: Options, folder: Path) -> Visit:
    """Run a program; what it prints goes to log.txt. A failure is kept, not raised."""
    module = importlib.import_module(stop.module)
    config = module.Config(**stop.settings, **({} if options.full else stop.short))
    config = replace(config, run=replace(config.run, device=options.device))
    seen = Visit(stop, idea=first_line(module.__doc__), command=command_line(stop.module, config))
    start = time.perf_counter()
    path = folder / "log.txt"
    with path.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        before, printed_before = set(folder.rglob("summary.json")), log.tell()
        print(f"$ {seen.command}", flush=True)
        try:
            seen.metrics = module.train(replace(config, run=replace(config.run, out=folder)))
            seen.result = f"{stop.metric.replace('_', ' ')} {figure(seen.metrics[stop.metric])}"
            seen.baseline = compared(stop, seen.metrics)
        except Exception as error:
            traceback.print_exc(file=log)
            seen.error = f"{type(error).__name__}: {error}"
            seen.result = f"failed: {seen.error}"
    seen.seconds = time.perf_counter() - start
    seen.printed = path.read_bytes()[printed_before:].decode(errors="replace").strip()
    for path in set(folder.rglob("summary.json")) - before:
        summary = read_json(path)
        if f"{summary['chapter']}.{summary['program']}" != stop.module:
            continue  # the program has let others train
        seen.data, seen.device = (summary["data"] or {"name": ""})["name"], summary["device"]
        pictures = sorted(p for p in path.parent.iterdir() if p.suffix in MIME)
        seen.figures = tuple((p.stem, inlined(p)) for p in pictures)
    return seen


def compared(stop: Stop, metrics: dict[str, float]) -> str:
    """Name the baseline and its figure: `guessing 0.1`."""
    if stop.against is None:
        return ""
    words, value = stop.against
    return f"{words} {figure(metrics[value] if isinstance(value, str) else value)}"


def figure(value: float) -> str:
    """Write a figure with four digits, and thousands with commas."""
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e9 else f"{value:.4g}"


def first_line(text: str | None) -> str:
    """Take a docstring's first line."""
    return (text or "").strip().partition("\n")[0]


def inlined(path: Path) -> str:
    """Write a picture as an address that holds it."""
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def table_of(visits: Sequence[Visit]) -> Table:
    """Lay the visits out as a table."""
    table = Table(box=box.SIMPLE)
    table.add_column("ch", justify="right")
    for heading in ("program", "data", "result", "against"):
        table.add_column(heading)
    table.add_column("seconds", justify="right")
    table.add_column("device")
    for seen in visits:
        device, seconds = seen.device.partition(":")[0], f"{seen.seconds:.1f}"
        table.add_row(str(seen.stop.chapter), seen.stop.title, seen.data, seen.result, seen.baseline, seconds, device)
    return table


@contextlib.contextmanager
def live_table(visits: list[Visit]) -> Iterator[Any]:
    """Keep the table on the screen while it grows; where the output is no terminal, print it once at the end."""
    output = console()
    if not output.is_terminal:
        yield lambda: None
        output.print(table_of(visits))
        return
    with Live(table_of(visits), console=output, auto_refresh=False) as live:
        yield lambda: live.update(table_of(visits), refresh=True)


def compare_devices(stops: Sequence[Stop], folder: Path) -> tuple[list[benchmark.Timing], str]:
    """Time each program's training step on every device; print the table, give it and its picture."""
    modules = [importlib.import_module(name) for name in dict.fromkeys(stop.module for stop in stops)]
    timings = [
        timing
        for module in modules
        if hasattr(module, "workload")
        for timing in benchmark.measure(module, module.Config())
    ]
    if not timings:
        return [], ""
    benchmark.print_table(timings)
    with atomic_path(folder / "devices.png") as path:
        benchmark.draw(timings).savefig(path)
    return timings, inlined(folder / "devices.png")


@dataclass(frozen=True)
class Chapter:
    """A chapter in the report: its title, its idea (how its README begins), and what was seen of it."""

    number: int
    title: str
    idea: str
    visits: list[Visit]


def chapters_of(visits: Sequence[Visit]) -> list[Chapter]:
    """Gather the visits by chapter."""
    found: dict[str, list[Visit]] = {}
    for seen in visits:
        found.setdefault(seen.stop.module.partition(".")[0], []).append(seen)
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
    """Take the first paragraph below a README's title, its links by their words."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", readme.split("\n\n")[1]).replace("\n", " ")


def write_report(path: Path, visits: Sequence[Visit], seconds: float, devices_seen: tuple[Any, str]) -> None:
    """Write the report: one HTML page that holds its pictures and asks for nothing from outside."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = figure
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    timings, picture = devices_seen
    text = page.render(
        chapters=chapters_of(visits),
        timings=timings,
        devices_picture=picture,
        seconds=seconds,
        machine=devices.describe_machine(),
        versions=devices.versions(),
        date=f"{datetime.now():%d %B %Y, %H:%M}",
    )
    write_text(path, text)


def tour(options: Options) -> int:
    """Visit every stop; return how many failed."""
    stops = options.stops()
    devices.resolve_device(options.device)
    folder = options.out / "tour" / f"{datetime.now():%Y%m%d-%H%M%S}"
    with explain_unwritable(folder):
        folder.mkdir(parents=True)
    start = time.perf_counter()
    visits: list[Visit] = []
    data = "real data where it can be had" if options.full else "embedded data"
    say("tour", f"{len(stops)} stops on {data}; what the programs print goes to {folder / 'log.txt'}")
    with live_table(visits) as refresh:
        for stop in stops:
            visits.append(visit(stop, options, folder))
            refresh()
    seconds = time.perf_counter() - start
    write_report(folder / "index.html", visits, seconds, ([], ""))
    if options.compare:  # a device that fails now takes the table along, and not the report
        write_report(folder / "index.html", visits, seconds, compare_devices(stops, folder))
    failed = sum(bool(seen.error) for seen in visits)
    say("done", f"{len(visits) - failed} of {len(visits)} stops went well, in {seconds:.0f} s")
    say("report", str(folder / "index.html"))
    return failed


if __name__ == "__main__":
    with one_line_errors():
        chosen = parse(Options, sys.argv[1:], prog="python tour.py", description=first_line(__doc__))
        sys.exit(min(tour(chosen), 100))
