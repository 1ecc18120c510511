"""Run one program in a worker of the tour; collect its metrics, pictures and output.

This module does not import torch, which the process that shows the table does not need.
"""

import base64
import contextlib
import importlib
import importlib.util
import io
import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.config import chapter_and_name, command_line, to_json
from common.files import atomic_path, read_json
from companion.tour_stops import Stop

PICTURES = (".png", ".gif")
PICTURE_QUALITY, FILM_QUALITY = 70, 50
"""WebP quality of pictures (which contain text) and of animations, 0 to 100."""


@dataclass(frozen=True)
class Request:
    """Options of a visit."""

    full: bool
    """Real data and the program's own settings."""
    device: str
    threads: int | None
    """CPU threads of programs that do not choose their number; None uses all."""
    folder: Path
    """Folder of the tour, in which all runs are created."""


@dataclass(frozen=True)
class Picture:
    """A picture or an animation of a run."""

    name: str
    address: str
    """data: URL with the content."""
    width: int
    height: int


@dataclass
class Visit:
    """Result of a stop."""

    stop: Stop
    idea: str = ""
    command: str = ""
    result: str = ""
    """Metric that summarises the stop, or the error."""
    baseline: str = ""
    """Baseline of the metric."""
    data: str = ""
    device: str = ""
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    printed: str = ""
    error: str = ""

    def fail(self, error: str) -> None:
        """Record why the stop failed."""
        self.error, self.result = error, f"failed: {error}"


def settings_of(stop: Stop, request: Request) -> Any:
    """Build the Config of a stop."""
    module = importlib.import_module(stop.module)
    short = {} if request.full else stop.short | stop.make(request.folder)
    config = module.Config(**stop.settings, **short)
    threads = request.threads if config.run.threads is None else config.run.threads
    return replace(config, run=replace(config.run, device=request.device, threads=threads, out=request.folder))


def visit(stop: Stop, request: Request) -> Visit:
    """Run a program, with its output in a file. An error is recorded, not raised."""
    visit = Visit(stop)
    start = time.perf_counter()
    log = request.folder / "printed" / f"{stop.module}{'-' if stop.settings else ''}{'-'.join(stop.settings)}.txt"
    log.parent.mkdir(exist_ok=True)
    config = None
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            module = importlib.import_module(stop.module)
            visit.idea = first_line(module.__doc__)
            config = settings_of(stop, request)
            visit.command = command_line(stop.module, replace(config, run=replace(config.run, out=Path("runs"))))
            print(f"$ {visit.command}", flush=True)
            visit.metrics = module.train(config)
            visit.result = f"{stop.measure}: {figure(visit.metrics[stop.metric])}"
            visit.baseline = compared(stop, visit.metrics)
        except Exception as error:
            traceback.print_exc()
            visit.fail(f"{type(error).__name__}: {error}")
    visit.printed = log.read_text(encoding="utf-8", errors="replace").strip()
    if config is not None:
        read_run(visit, to_json(config), request.folder)
    visit.seconds = time.perf_counter() - start
    return visit


def read_run(visit: Visit, settings: dict[str, Any], folder: Path) -> None:
    """Read data, device and pictures of the run with these settings; other stops may run the same program."""
    chapter, program = chapter_and_name(visit.stop.module)
    for path in (folder / chapter / program).glob("*/summary.json"):
        summary = read_json(path)
        if summary["config"] == json.loads(json.dumps(settings)):
            visit.data, visit.device = (summary["data"] or {"name": ""})["name"], summary["device"]
            visit.pictures = tuple(inlined(p) for p in sorted(path.parent.iterdir()) if p.suffix in PICTURES)


def compared(stop: Stop, metrics: dict[str, float]) -> str:
    """Describe the baseline and its value: `guessing: 0.1`."""
    if stop.against is None:
        return ""
    words, value = stop.against
    return f"{words}: {figure(metrics[value] if isinstance(value, str) else value)}"


def figure(value: float) -> str:
    """Format a number with four digits, and thousands with commas."""
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e9 else f"{value:.4g}"


def first_line(text: str | None) -> str:
    """Return the first line of a docstring."""
    return (text or "").strip().partition("\n")[0]


def inlined(path: Path) -> Picture:
    """Embed a picture or an animation in a data: URL: as WebP, or as it is if that is smaller (as noise is in PNG)."""
    from PIL import Image

    original, small = path.read_bytes(), io.BytesIO()
    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            image.save(small, "WEBP", save_all=True, quality=FILM_QUALITY, method=2)
        else:
            image.convert("RGB").save(small, "WEBP", quality=PICTURE_QUALITY, method=2)
        kind, content = min(("webp", small.getvalue()), (path.suffix[1:], original), key=lambda pair: len(pair[1]))
        address = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        return Picture(path.stem, address, *image.size)


@dataclass(frozen=True)
class Exercises:
    """Progress in the exercises of a chapter."""

    package: str
    solved: int
    total: int
    next: str
    """Number and title of the next exercise; empty if all are solved."""
    command: str
    """Command that checks the next exercise."""
    minutes: int
    """Estimated time for the remaining exercises."""


def exercises_of(packages: Sequence[str]) -> list[Exercises]:
    """Check the reader's solutions of the exercises of these chapters; skip chapters without exercises."""
    from common.exercises.command import progress_of

    found = []
    for package in packages:
        if importlib.util.find_spec(f"{package}.exercises") is None:
            continue
        checks = importlib.import_module(f"{package}.exercises.checks")
        progress = progress_of(checks.EXERCISES, Path(__file__).parents[1] / package / "exercises")
        title, command = "", ""
        if progress.next is not None:
            exercise, task = progress.next
            title, command = f"{exercise.number} {task.title}", f"python -m {package}.exercises {exercise.number}"
        counts = {"solved": progress.solved, "total": len(progress.exercises), "minutes": progress.minutes}
        found.append(Exercises(package, next=title, command=command, **counts))
    return found


def get_ready(device: str) -> dict[str, Any]:
    """Import the libraries of all programs, set one thread, and describe the machine.

    Raises ValueError if the device does not exist.
    """
    import matplotlib.figure  # noqa: F401
    import torch

    from common import device as devices

    devices.resolve_device(device)
    torch.set_num_threads(1)
    return {"machine": devices.describe_machine(), "versions": devices.versions()}


def compare_devices(modules: Sequence[str], folder: Path) -> tuple[list[Any], Picture | None]:
    """Time each program's training step on every device; return the timings and a picture of them."""
    from common import benchmark
    from common.drawing import plots

    timings = [
        timing
        for module in map(importlib.import_module, dict.fromkeys(modules))
        if hasattr(module, "workload")
        for timing in benchmark.measure(module, module.Config())
    ]
    if not timings:
        return [], None
    with atomic_path(folder / "devices.png") as path:
        plots.save(benchmark.draw(timings), path)
    return timings, inlined(folder / "devices.png")
