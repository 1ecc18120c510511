"""The tour: every chapter's core programs for a moment, on data that need no download, in one table and one report.

python tour.py
"""

import base64
import contextlib
import importlib
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from rich import box
from rich.live import Live
from rich.table import Table

from common import device as devices
from common.cli import one_line_errors, parse
from common.config import command_line
from common.files import explain_unwritable, read_json, write_text
from common.progress import console, say

TEMPLATE = Path(__file__).with_name("tour.html")


@dataclass(frozen=True)
class Stop:
    """A program of the tour: its settings there, and the measure that sums it up."""

    module: str
    settings: dict[str, Any]
    metric: str

    @property
    def title(self) -> str:
        """Name the program and what is special about its settings: `ch03 autoencoder, noise 0.5`."""
        chapter, _, program = self.module.partition(".")
        special = [f"{name.replace('_', ' ')} {value}" for name, value in self.settings.items() if name != "data"]
        return ", ".join([f"{chapter.partition('_')[0]} {program}", *special])


STOPS = [
    Stop("ch01_graphs.expressions", {}, "affine_0"),
    Stop("ch01_graphs.numerics", {}, "rewritten_largest_error"),
    Stop("ch01_graphs.regression", {}, "compiled_ratio"),
    Stop("ch02_nn.simple", {}, "prediction_4"),
    Stop("ch02_nn.regression", {}, "cubic_lstsq_r2"),
    Stop("ch02_nn.activations", {}, "distance_gelu"),
    Stop("ch02_nn.initial", {}, "he_normal_activation"),
    Stop("ch02_nn.classifier", {"data": "digits"}, "test_accuracy"),
    Stop("ch02_nn.fitting", {}, "chosen_degree_rmse"),
    Stop("ch02_nn.fizzbuzz", {}, "test_accuracy"),
    Stop("ch03_autoencoder_rbm.feedforward", {"data": "digits"}, "test_accuracy"),
    Stop("ch03_autoencoder_rbm.feedforward", {"data": "digits", "loss": "book"}, "test_accuracy"),
    Stop("ch03_autoencoder_rbm.autoencoder", {"data": "digits"}, "test_mse"),
    Stop("ch03_autoencoder_rbm.autoencoder", {"data": "digits", "noise": 0.5}, "test_mse"),
    Stop("ch03_autoencoder_rbm.rbm", {"data": "digits", "epochs": 60, "hidden_size": 200}, "test_log_likelihood"),
    Stop("ch03_autoencoder_rbm.recommender", {"data": "planted", "epochs": 20}, "test_rmse"),
    Stop("ch04_cuda.input_pipeline", {"data": "digits", "rounds": 1, "seconds": 0.2}, "resident_ratio"),
    Stop("ch04_cuda.by_hand", {"data": "digits", "rounds": 1, "seconds": 0.2}, "hand_dataloader_ratio"),
    Stop("ch05_rnn.language_model", {"data": "pydoc", "budget": 8.0}, "test_loss"),
    Stop("ch05_rnn.forecast", {}, "test_lstm_one_step_rmse"),
    Stop("ch06_cnn.cnn", {"data": "shapes", "network": "linear", "epochs": 2}, "test_accuracy"),
    Stop("ch06_cnn.speedrun", {"data": "shapes", "budget": 6.0}, "test_accuracy"),
    Stop("ch07_dqn.q_table", {}, "path_steps"),
    Stop("ch07_dqn.dqn", {}, "path_steps"),
    Stop("ch07_dqn.generalise", {"budget": 8.0, "tests": 200, "large_tests": 50}, "test_solve_rate"),
    Stop("ch08_vae.vae", {"data": "digits", "epochs": 150, "importance_samples": 500}, "test_log_likelihood"),
    Stop("ch08_vae.gan", {"data": "digits", "epochs": 20, "width": 16}, "sample_classes"),
]


@dataclass(frozen=True)
class Options:
    """Flags of the tour."""

    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda, cuda:1 or mps."""
    out: Path = Path("runs")
    """Folder that receives tour/<time>/ with the report and every run."""


@dataclass
class Visit:
    """What happened at a stop."""

    title: str
    idea: str
    command: str
    result: str = ""
    """The measure that sums the stop up, or that it failed."""
    data: str = ""
    device: str = ""
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    figures: tuple[tuple[str, str], ...] = ()
    """Names and PNG contents in base64."""
    error: str = ""


def visit(stop: Stop, options: Options, folder: Path) -> Visit:
    """Run a program; what it prints goes to log.txt. A failure is kept, not raised."""
    module = importlib.import_module(stop.module)
    config = module.Config(**stop.settings)
    config = replace(config, run=replace(config.run, device=options.device))
    seen = Visit(
        title=stop.title,
        idea=(module.__doc__ or "").partition("\n")[0],
        command=command_line(stop.module, config),
    )
    start = time.perf_counter()
    with (folder / "log.txt").open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        print(f"$ {seen.command}", flush=True)
        before = set(folder.rglob("summary.json"))
        try:
            metrics = module.train(replace(config, run=replace(config.run, out=folder)))
            seen.result = f"{stop.metric.replace('_', ' ')} {metrics[stop.metric]:.4g}"
            seen.metrics = metrics
        except Exception as error:
            traceback.print_exc(file=log)
            seen.error = f"{type(error).__name__}: {error}"
            seen.result = f"failed: {seen.error}"
    seen.seconds = time.perf_counter() - start
    for path in set(folder.rglob("summary.json")) - before:
        summary = read_json(path)
        seen.data, seen.device = (summary["data"] or {"name": ""})["name"], summary["device"]
        pictures = sorted(path.parent.glob("*.png"))
        seen.figures = tuple((p.stem, base64.b64encode(p.read_bytes()).decode()) for p in pictures)
    return seen


def table_of(visits: list[Visit]) -> Table:
    """Lay the visits out as a table."""
    table = Table(box=box.SIMPLE)
    for heading in ("program", "data", "result"):
        table.add_column(heading)
    table.add_column("seconds", justify="right")
    table.add_column("device")
    for seen in visits:
        table.add_row(seen.title, seen.data, seen.result, f"{seen.seconds:.1f}", seen.device.partition(":")[0])
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


def write_report(path: Path, visits: list[Visit], seconds: float) -> None:
    """Write the report: one HTML page that holds its pictures and asks for nothing from outside."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    machine, versions = devices.describe_machine(), devices.versions()
    write_text(
        path,
        page.render(
            visits=visits, seconds=seconds, machine=machine, versions=versions, date=f"{datetime.now():%d %B %Y, %H:%M}"
        ),
    )


def tour(options: Options) -> int:
    """Visit every stop; return how many failed."""
    devices.resolve_device(options.device)
    folder = options.out / "tour" / f"{datetime.now():%Y%m%d-%H%M%S}"
    with explain_unwritable(folder):
        folder.mkdir(parents=True)
    start = time.perf_counter()
    visits: list[Visit] = []
    say("tour", f"{len(STOPS)} stops on embedded data; what the programs print goes to {folder / 'log.txt'}")
    with live_table(visits) as refresh:
        for stop in STOPS:
            visits.append(visit(stop, options, folder))
            refresh()
    seconds = time.perf_counter() - start
    write_report(folder / "index.html", visits, seconds)
    failed = sum(bool(seen.error) for seen in visits)
    say("done", f"{len(visits) - failed} of {len(visits)} stops went well, in {seconds:.0f} s")
    say("report", str(folder / "index.html"))
    return failed


if __name__ == "__main__":
    with one_line_errors():
        chosen = parse(Options, sys.argv[1:], prog="python tour.py", description=(__doc__ or "").partition("\n")[0])
        sys.exit(min(tour(chosen), 100))
