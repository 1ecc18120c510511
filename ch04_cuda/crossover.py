"""Break-even batch sizes of a GPU (or of all CPU threads) for several widths, and estimated seconds of an epoch.

    python -m ch04_cuda.train crossover
    python -m ch04_cuda.train crossover --networks lstm --batch-sizes 1 8 64 512
    python -m ch04_cuda.train crossover --estimate

The program compares the CPU with a GPU or, without a GPU, one thread with all threads. It measures the speed of the
second relative to the first in a training step on random images, for several widths and batch sizes. The break-even
batch size of a width is the smallest one such that the second is faster at it and at all larger measured batch sizes.

`--estimate` times two batch sizes on random images and models the time of a step as linear in the batch size B:

    seconds per step = overhead + B x seconds per image

It then estimates the seconds of an epoch of the data set, trains one epoch and reports the error.

Dimensions: B batch.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from ch04_cuda.input_pipeline import resident
from ch04_cuda.networks import NETWORKS, WIDTHS, scaled, train_step
from common import device as devices
from common import distributed
from common.benchmark import interleaved, median_ratio
from common.config import RunOptions, require, require_positive
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import Timer
from common.progress import print_table, say, track
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Network = Literal["mlp", "cnn", "lstm"]

FACTORS = (0.25, 1.0, 4.0)
"""Widths to measure, as multiples of the default width."""

PROBES = (32, 256)
"""Batch sizes to time for the estimate."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set of --estimate. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    networks: tuple[Network, ...] = ("mlp", "cnn", "lstm")
    """Networks to time."""
    batch_sizes: tuple[int, ...] = (8, 32, 128, 512)
    """Batch sizes to compare."""
    estimate: bool = False
    """Estimate and measure the seconds of an epoch, instead of comparing batch sizes."""
    batch_size: int = 128
    """Batch size of the epoch of --estimate."""
    rounds: int = 3
    """Rounds of measurement after a warm-up; every variant is timed once in each."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "batch_sizes", "batch_size", "rounds")
        require(len(self.networks) > 0, "--networks needs at least one name", "none")
        require(len(self.batch_sizes) > 0, "--batch-sizes needs at least one number", "none")


@dataclass(frozen=True)
class Place:
    """A device and a number of CPU threads."""

    title: str
    device: torch.device
    threads: int


def places(device: torch.device) -> tuple[Place, Place]:
    """Return the two places to compare: the CPU and the device, or one CPU thread and all of them."""
    cpu = torch.device("cpu")
    if device.type != "cpu":
        return Place("CPU", cpu, devices.ALL_THREADS), Place(str(device), device, devices.ALL_THREADS)
    return Place("one thread", cpu, 1), Place(f"{devices.ALL_THREADS} threads", cpu, devices.ALL_THREADS)


def training_step(network: str, width: int, batch_size: int, place: Place, *, bf16: bool) -> Callable[[], float]:
    """Make a function that takes three training steps on a batch of random images and returns the seconds per step."""
    model = NETWORKS[network](width).to(place.device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True)
    images = torch.randint(256, (batch_size, 1, 28, 28), dtype=torch.uint8, device=place.device)
    labels = torch.randint(10, (batch_size,), device=place.device)

    def step() -> float:
        devices.set_threads(place.threads)
        with Timer(place.device) as timer:
            for _ in range(3):
                train_step(model, optimizer, scaled(images), labels, bf16=bf16)
        return timer.seconds / 3

    return step


def break_even(ratios: torch.Tensor, widths: list[int], batch_sizes: tuple[int, ...]) -> str:
    """Describe the break-even batch size of each width, from (widths, batch sizes) ratios of speed."""
    descriptions = []
    for width, line in zip(widths, ratios.tolist(), strict=True):
        found = None
        for batch, ratio in sorted(zip(batch_sizes, line, strict=True), reverse=True):
            if ratio <= 1:
                break
            found = batch
        descriptions.append(
            f"no batch size at width {width}" if found is None else f"batch size {found} at width {width}"
        )
    return ", ".join(descriptions)


def maps(run: Run) -> dict[str, float]:
    """Compare the two places for all networks, widths and batch sizes; return ratios and milliseconds per step."""
    from common.drawing import plots

    config = run.config
    slow, fast = places(run.device)
    found: dict[str, float] = {}
    for network in config.networks:
        widths = [round(WIDTHS[network] * factor) for factor in FACTORS]
        ratios = torch.zeros(len(widths), len(config.batch_sizes))
        cells = list(itertools.product(enumerate(widths), enumerate(config.batch_sizes)))
        for (row, width), (column, batch) in track(cells, network):
            variants = {p.title: training_step(network, width, batch, p, bf16=run.bf16) for p in (slow, fast)}
            times = interleaved(variants, config.rounds, lambda variant: variant(), quiet=True)
            ratio = median_ratio(times[slow.title], times[fast.title])
            ratios[row, column] = ratio
            found[f"{network}_{width}_{batch}_ratio"] = ratio
            found[f"{network}_{width}_{batch}_milliseconds"] = 1e3 * statistics.median(times[fast.title])
        title = f"{network}: speed of {fast.title} relative to {slow.title}"
        rows = [(width, *(f"{float(ratio):.2f}" for ratio in line)) for width, line in zip(widths, ratios, strict=True)]
        print_table(["width", *(f"batch {batch}" for batch in config.batch_sizes)], rows, title=title)
        names = [str(width) for width in widths], [str(batch) for batch in config.batch_sizes]
        run.figure(
            f"crossover_{network}", plots.heat_map(ratios, *names, rows="width", columns="batch size", title=title)
        )
        say(network, f"{fast.title}: break-even at {break_even(ratios, widths, config.batch_sizes)}")
    run.figure("crossover", draw(config, found, f"speed of {fast.title} / {slow.title}"))
    return found


def draw(config: Config, ratios: Mapping[str, float], label: str) -> "Figure":
    """Draw the ratios against the batch size, one panel per network, one line per width."""
    from common.drawing import plots

    batches = sorted(config.batch_sizes)
    even = torch.logspace(math.log10(batches[0]), math.log10(batches[-1]), 60)
    panels = {
        f"{network}, default width {WIDTHS[network]}": {
            f"{factor:g}× width": (
                batches,
                [ratios[f"{network}_{round(WIDTHS[network] * factor)}_{batch}_ratio"] for batch in batches],
            )
            for factor in FACTORS
        }
        for network in config.networks
    }
    return plots.line_panels(
        panels,
        columns=len(panels),
        xlabel="batch size",
        ylabel=label,
        log_x=True,
        share_y=True,
        dots={title: {"equal speed": (even, torch.ones_like(even))} for title in panels},
        marked=[f"{factor:g}× width" for factor in FACTORS],
    )


def cost(network: str, config: Config, place: Place, *, bf16: bool) -> tuple[float, float]:
    """Measure the overhead in seconds per step and the seconds per image, from timings of two batch sizes."""
    variants = {str(b): training_step(network, WIDTHS[network], b, place, bf16=bf16) for b in PROBES}
    times = interleaved(variants, 2 * config.rounds, lambda variant: variant(), quiet=True)
    small, large = (statistics.median(times[str(batch)]) for batch in PROBES)
    image = (large - small) / (PROBES[1] - PROBES[0])
    return max(0.0, small - PROBES[0] * image), image


def epoch_seconds(network: str, config: Config, data: ImageSet, place: Place, *, bf16: bool) -> float:
    """Train a network for one epoch; return its seconds."""
    model = NETWORKS[network](WIDTHS[network]).to(place.device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True)
    stream = resident(data.train, config.batch_size, place.device)
    with Timer(place.device) as timer:
        for _ in range(-(-len(data.train) // config.batch_size)):
            train_step(model, optimizer, *next(stream), bf16=bf16)
    return timer.seconds


def estimates(run: Run, data: ImageSet) -> dict[str, float]:
    """Estimate and measure the seconds of an epoch of each network; return both and the relative error."""
    config = run.config
    place = Place(str(run.device), run.device, torch.get_num_threads())
    steps = -(-len(data.train) // config.batch_size)
    found: dict[str, float] = {}
    rows = []
    for network in config.networks:
        overhead, image = cost(network, config, place, bf16=run.bf16)
        estimated = steps * overhead + len(data.train) * image
        measured = epoch_seconds(network, config, data, place, bf16=run.bf16)
        error = estimated / measured - 1
        found |= {
            f"{network}_overhead_microseconds": 1e6 * overhead,
            f"{network}_image_microseconds": 1e6 * image,
            f"{network}_estimated_seconds": estimated,
            f"{network}_measured_seconds": measured,
            f"{network}_estimate_error": error,
        }
        costs = f"{1e6 * overhead:,.0f}", f"{1e6 * image:.2f}"
        rows.append((network, *costs, f"{estimated:.2f}", f"{measured:.2f}", f"{error:+.0%}"))
    headings = ["network", "us/step", "us/image", "estimated s", "measured s", "error"]
    print_table(headings, rows, title=f"an epoch of {len(data.train):,} images in batches of {config.batch_size}")
    return found


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Compare batch sizes, or estimate and measure an epoch; return ratios, or seconds and errors."""
    if not config.estimate:
        data = None  # batch sizes are compared on random images
    elif data is None:
        data = load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data and data.card) as run:
        require(distributed.world_size() == 1, "crossover compares within one process", distributed.world_size())
        return run.finish(run=maps(run) if data is None else estimates(run, data))
