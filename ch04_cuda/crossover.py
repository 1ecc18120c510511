"""From which batch and width on the faster place is faster, and how long an epoch will take before it is run.

    python -m ch04_cuda.train crossover
    python -m ch04_cuda.train crossover --networks lstm --batch-sizes 1 8 64 512
    python -m ch04_cuda.train crossover --estimate

A GPU computes many times as much a second as a CPU, but each call costs it longer: on small layers and batches the
CPU wins. The map shows how many times as fast the GPU's step is, for each width and batch; where a machine has no
GPU, it compares all threads of the CPU with one, which is the same question.

Both the cost of calls and that of arithmetic show in two timings. With a step's time taken as linear in the batch,

    seconds a step = overhead + B x seconds an image

`--estimate` times two batch sizes on noise for a moment, says how long an epoch of the real data will take, then
trains one and says how wrong that was.

Dimensions: B batch.
"""

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from ch04_cuda.input_pipeline import resident
from ch04_cuda.networks import NETWORKS, WIDTHS, scaled, train_step
from common import device as devices
from common import distributed
from common.benchmark import by_turns, median_ratio
from common.config import RunOptions, require, require_positive
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import Timer
from common.progress import print_table, say
from common.run import Run

Network = Literal["mlp", "cnn", "lstm"]

FACTORS = (0.25, 1.0, 4.0)
"""Widths that are tried, as multiples of the usual one."""

PROBES = (32, 256)
"""Batch sizes that the estimate is made from."""


@dataclass(frozen=True)
class Config:
    """What is compared, and for how long."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Whose epoch is estimated; auto takes MNIST where it is on disk or can be downloaded, else the embedded digits."""
    networks: tuple[Network, ...] = ("mlp", "cnn", "lstm")
    """Which networks."""
    batch_sizes: tuple[int, ...] = (8, 32, 128, 512)
    """Images a step."""
    estimate: bool = False
    """Estimate an epoch's seconds instead, then measure them."""
    batch_size: int = 128
    """Images a step of the epoch that is estimated."""
    rounds: int = 3
    """How often the ways take turns, after a warm-up."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "batch_sizes", "batch_size", "rounds")
        require(len(self.networks) > 0, "--networks needs at least one name", "none")
        require(len(self.batch_sizes) > 0, "--batch-sizes needs at least one number", "none")


@dataclass(frozen=True)
class Place:
    """Where a step runs."""

    title: str
    device: torch.device
    threads: int


def places(device: torch.device) -> tuple[Place, Place]:
    """Give the two places that are compared: the CPU and the device, or one thread of the CPU and all of them."""
    cpu = torch.device("cpu")
    if device.type != "cpu":
        return Place("CPU", cpu, devices.ALL_THREADS), Place(str(device), device, devices.ALL_THREADS)
    return Place("one thread", cpu, 1), Place(f"{devices.ALL_THREADS} threads", cpu, devices.ALL_THREADS)


def training_step(network: str, width: int, batch_size: int, place: Place, *, bf16: bool) -> Callable[[], float]:
    """Make a function that takes a step on a batch of noise, from bytes as in training; returns its seconds."""
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


def first_win(ratios: torch.Tensor, widths: list[int], batch_sizes: tuple[int, ...]) -> str:
    """Say from which batch on the faster place wins, for each width."""
    said = []
    for width, line in zip(widths, ratios.tolist(), strict=True):
        winning = [batch for batch, ratio in zip(batch_sizes, line, strict=True) if ratio > 1]
        said.append(f"batch {winning[0]} at width {width}" if winning else f"no batch at width {width}")
    return ", ".join(said)


def maps(run: Run) -> dict[str, float]:
    """Compare the two places over widths and batches, network by network."""
    from common.drawing import plots

    config = run.config
    slow, fast = places(run.device)
    found: dict[str, float] = {}
    for network in config.networks:
        widths = [round(WIDTHS[network] * factor) for factor in FACTORS]
        ratios = torch.zeros(len(widths), len(config.batch_sizes))
        for (row, width), (column, batch) in itertools.product(enumerate(widths), enumerate(config.batch_sizes)):
            ways = {p.title: training_step(network, width, batch, p, bf16=run.bf16) for p in (slow, fast)}
            times = by_turns(ways, config.rounds, lambda way: way(), quiet=True)
            ratio = median_ratio(times[slow.title], times[fast.title])
            ratios[row, column] = ratio
            found[f"{network}_{width}_{batch}_ratio"] = ratio
            found[f"{network}_{width}_{batch}_milliseconds"] = 1e3 * statistics.median(times[fast.title])
        title = f"{network}: how many times as fast {fast.title} {'is' if slow.title == 'CPU' else 'are'}"
        rows = [(width, *(f"{float(ratio):.2f}" for ratio in line)) for width, line in zip(widths, ratios, strict=True)]
        print_table(["width", *(f"batch {batch}" for batch in config.batch_sizes)], rows, title=title)
        names = [str(width) for width in widths], [str(batch) for batch in config.batch_sizes]
        run.figure(f"crossover_{network}", plots.heat_map(ratios, *names, rows="width", columns="batch", title=title))
        say(network, f"{fast.title} win from {first_win(ratios, widths, config.batch_sizes)}")
    return found


def cost(network: str, config: Config, place: Place, *, bf16: bool) -> tuple[float, float]:
    """Fit the line: seconds of overhead a step, and seconds an image, from two batch sizes."""
    ways = {str(b): training_step(network, WIDTHS[network], b, place, bf16=bf16) for b in PROBES}
    times = by_turns(ways, 2 * config.rounds, lambda way: way(), quiet=True)
    small, large = (statistics.median(times[str(batch)]) for batch in PROBES)
    image = (large - small) / (PROBES[1] - PROBES[0])
    return max(0.0, small - PROBES[0] * image), image


def epoch_seconds(network: str, config: Config, data: ImageSet, place: Place, *, bf16: bool) -> float:
    """Train a network for an epoch, and time it."""
    model = NETWORKS[network](WIDTHS[network]).to(place.device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True)
    stream = resident(data.train, config.batch_size, place.device)
    with Timer(place.device) as timer:
        for _ in range(-(-len(data.train) // config.batch_size)):
            train_step(model, optimizer, *next(stream), bf16=bf16)
    return timer.seconds


def estimates(run: Run, data: ImageSet) -> dict[str, float]:
    """Estimate an epoch of each network from moments of noise, then train it; return both and the error."""
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
    headings = ["network", "us a step", "us an image", "estimated s", "measured s", "error"]
    print_table(headings, rows, title=f"an epoch of {len(data.train):,} images in batches of {config.batch_size}")
    return found


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Draw the maps, or estimate and measure an epoch; return the ratios, or seconds and errors."""
    data = (data or load_images(config.data, limit=config.run.limit)) if config.estimate else None  # maps need none
    with Run.open(__name__, config, data and data.card) as run:
        require(distributed.world_size() == 1, "crossover compares within one process", distributed.world_size())
        return run.finish(run=maps(run) if data is None else estimates(run, data))
