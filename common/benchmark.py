"""Time training steps on every device of this machine and tabulate CPU and GPU throughput.

All variants are built first, then timed interleaved, round after round in one process, so that a disturbance of the
machine affects every variant alike. Each figure is a median over the rounds, with its spread.
"""

import contextlib
import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from common import device as devices
from common.files import atomic_path, explain_unwritable, write_json
from common.progress import console, format_metrics, say, track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

W = TypeVar("W")

ROUNDS = 9
ROUND_SECONDS = 0.08
"""Approximate duration of one variant in one round."""


@dataclass(frozen=True)
class Workload:
    """One training step on data that are already on the device."""

    step: Callable[[], object]
    items: int
    """Samples per step."""
    unit: str = "images"


@dataclass(frozen=True)
class Variant:
    """Program, device, threads and precision of a timed step."""

    program: str
    device: str
    threads: int
    precision: str

    @property
    def place(self) -> str:
        """Short name of device and threads: `cpu x 2` or `cuda:0`."""
        return f"cpu x {self.threads}" if self.device == "cpu" else self.device


@dataclass(frozen=True)
class Timing:
    """Measurements of one variant."""

    variant: Variant
    milliseconds: float
    """Median time of one step."""
    spread: float
    """Half the interquartile range over the rounds, relative to the median."""
    items_per_second: float
    unit: str
    gflops: float
    """Billion floating-point operations per second, counted in matrix products and convolutions."""
    peak_megabytes: float | None
    """Peak memory during the steps, of the device or (for a CPU) of the whole process, including the models and batches
    of the other variants; None if unknown."""
    ratio: float
    """Speed relative to the program's fp32 step on all CPU threads."""


def interleaved(
    ways: Mapping[str, W], rounds: int, figure: Callable[[W], float], *, quiet: bool = False
) -> dict[str, list[float]]:
    """Measure several variants interleaved, round after round, and print the figures of each round unless quiet.

    A disturbance of the machine then affects all variants alike: compare them within the rounds. The first round warms
    up caches and thread pools and is discarded.
    """
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for turn in track(range(rounds + 1), "rounds"):
        now = {name: figure(way) for name, way in ways.items()}
        if not quiet:
            say("warm-up" if turn == 0 else f"round {turn}", format_metrics(now))
        if turn > 0:
            for name, value in now.items():
                figures[name].append(value)
    return figures


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over the rounds of ours / theirs: for rates the speedup of ours, for times that of theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def rate(way: Callable[[], float], seconds: float, device: torch.device) -> float:
    """Measure the rate of a variant: the amount that its calls return, per second, over a minimum duration."""
    done, spent = 0.0, 0.0
    while spent < seconds:
        with devices.Timer(device) as timer:
            done += way()
        spent += timer.seconds
    return done / spent


def seconds_per_call(way: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Measure the mean duration of a call over a minimum time; the device is synchronised after every five calls."""

    def five() -> float:
        for _ in range(5):
            way()
        return 5

    return 1 / rate(five, seconds, device)


def matrix_product_rate(size: int = 2_048, rounds: int = 15) -> float:
    """Measure the CPU's rate of float32 matrix products on torch's threads: the median in GFLOP/s."""
    a, b = torch.randn(2, size, size)
    seconds = []
    for _ in range(rounds):
        with devices.Timer(a.device) as timer:
            a @ b
        seconds.append(timer.seconds)
    return 2 * size**3 / statistics.median(seconds[1:]) / 1e9


def variants(program: str) -> list[Variant]:
    """List the variants that this machine can time: CPU threads (the reference first), accelerators, then bf16."""
    found = [Variant(program, "cpu", devices.ALL_THREADS, "fp32")]
    if devices.ALL_THREADS > 1:
        found.append(Variant(program, "cpu", 1, "fp32"))
    for device in devices.present_devices()[1:]:
        found.append(Variant(program, device, devices.ALL_THREADS, "fp32"))
    return found + [
        replace(variant, precision="bf16") for variant in found if devices.has_native_bf16(torch.device(variant.device))
    ]


def measure(module: ModuleType, config: Any, rounds: int = ROUNDS) -> list[Timing]:
    """Time a program's training step in every variant, interleaved."""
    program = module.__name__.rpartition(".")[2]
    threads_before = torch.get_num_threads()
    entries = []
    for variant in variants(program):
        device = torch.device(variant.device)
        options = replace(config.run, device=variant.device, precision=variant.precision, threads=variant.threads)
        try:
            variant_config = replace(config, run=options)
        except ValueError:
            if variant.precision == "fp32":
                raise
            continue  # the program's Config rejects bfloat16
        devices.seed_everything(config.run.seed)
        workload = module.workload(variant_config, device)
        devices.set_threads(variant.threads)
        with FlopCounterMode(display=False) as counter:
            workload.step()
        seconds = _seconds(workload, device, steps=5)  # warm-up
        entries.append((variant, device, workload, counter.get_total_flops(), max(3, int(ROUND_SECONDS / seconds))))

    samples: dict[Variant, list[float]] = {variant: [] for variant, *_ in entries}
    peaks: dict[Variant, float | None] = {variant: None for variant, *_ in entries}
    gc.collect()
    for number in track(range(rounds + 1), "rounds"):
        for variant, device, workload, _, steps in entries:
            devices.set_threads(variant.threads)
            _reset_peak_memory(device)
            seconds = _seconds(workload, device, steps)
            if number > 0:  # the first round only warms up caches and thread pools
                samples[variant].append(seconds)
                now = _peak_megabytes(device)
                peaks[variant] = now and max(now, peaks[variant] or 0)
    torch.set_num_threads(threads_before)

    reference = statistics.median(samples[entries[0][0]]) / entries[0][2].items
    timings = []
    for variant, _, workload, flops, _ in entries:
        median = statistics.median(samples[variant])
        low, _, high = statistics.quantiles(samples[variant], n=4)
        timings.append(
            Timing(
                variant=variant,
                milliseconds=1e3 * median,
                spread=(high - low) / 2 / median,
                items_per_second=workload.items / median,
                unit=workload.unit,
                gflops=flops / median / 1e9,
                peak_megabytes=peaks[variant],
                ratio=reference * workload.items / median,
            )
        )
    return timings


def _seconds(workload: Workload, device: torch.device, steps: int) -> float:
    """Measure the mean duration of a step over a number of steps."""
    with devices.Timer(device) as timer:
        for _ in range(steps):
            workload.step()
    return timer.seconds / steps


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (clear := Path("/proc/self/clear_refs")).exists():
        with contextlib.suppress(OSError):  # some containers forbid it
            clear.write_text("5")  # proc(5): resets the peak resident set size


def _peak_megabytes(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if device.type == "cpu" and (status := Path("/proc/self/status")).exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def run_benchmark(chapter: str, jobs: list[tuple[ModuleType, Any]]) -> list[Timing]:
    """Time the programs of a chapter, print the table, and write benchmark.json and benchmark.png."""
    out = jobs[0][1].run.out
    folder = out / chapter / "benchmark" / f"{datetime.now():%Y%m%d-%H%M%S}"
    with explain_unwritable(folder):
        folder.mkdir(parents=True)
    machine = devices.describe_machine()
    say(
        "machine",
        f"{machine['cpu']}, {devices.ALL_THREADS} threads; {machine.get('gpu', 'no GPU: only the CPU is timed')}",
    )
    timings = [timing for module, config in jobs for timing in measure(module, config)]
    from common.drawing import plots

    print_table(timings)
    record = {
        "machine": machine,
        "versions": devices.versions(),
        "rounds": ROUNDS,
        "timings": [vars(timing) | {"variant": vars(timing.variant)} for timing in timings],
    }
    write_json(folder / "benchmark.json", record)
    with atomic_path(folder / "benchmark.png") as path:
        plots.save(draw(timings), path)
    say("saved", f"{folder}: benchmark.json benchmark.png")
    return timings


def print_table(timings: list[Timing]) -> None:
    """Print the timings as a table."""
    from rich import box
    from rich.table import Table

    table = Table(title="one training step: median over the rounds, ± half the interquartile range", box=box.SIMPLE)
    for heading in ("program", "device", "precision"):
        table.add_column(heading)
    for heading in ("ms/step", "±", "per second", "GFLOP/s", "peak MB", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, timing in enumerate(timings):
        variant, memory = timing.variant, timing.peak_megabytes
        table.add_row(
            variant.program,
            variant.place,
            variant.precision,
            f"{timing.milliseconds:.3f}",
            f"{timing.spread:.0%}",
            f"{timing.items_per_second:,.0f} {timing.unit}",
            f"{timing.gflops:,.1f}",
            "-" if memory is None else f"{memory:,.0f}",
            f"{timing.ratio:.2f}",
            end_section=number + 1 < len(timings) and timings[number + 1].variant.program != variant.program,
        )
    console().print(table)


def draw(timings: list[Timing]) -> "Figure":
    """Draw the throughput of every variant, one panel per program."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from common.drawing.plots import LOOK

    programs = list(dict.fromkeys(timing.variant.program for timing in timings))
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(6.4, sum(0.9 + 0.3 * _count(timings, program) for program in programs)))
        heights = [_count(timings, program) + 2 for program in programs]
        for axes, program in zip(
            figure.subplots(len(programs), height_ratios=heights, squeeze=False)[:, 0], programs, strict=True
        ):
            shown = [timing for timing in timings if timing.variant.program == program]
            names = [f"{timing.variant.place}, {timing.variant.precision}" for timing in shown]
            speeds = [timing.items_per_second for timing in shown]
            errors = [timing.items_per_second * timing.spread for timing in shown]
            drawn = axes.barh(range(len(shown)), speeds, xerr=errors)
            axes.bar_label(drawn, [f"{timing.ratio:.2f}x" for timing in shown], padding=4, fontsize="small")
            axes.set_yticks(range(len(shown)), names)
            axes.set(title=program, xlabel=f"{shown[0].unit}/s", xlim=(0, 1.15 * max(speeds)))
            axes.invert_yaxis()
            axes.grid(False, axis="y")
    return figure


def _count(timings: list[Timing], program: str) -> int:
    return sum(timing.variant.program == program for timing in timings)
