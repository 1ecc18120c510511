"""Scaling of the recommender: seconds per epoch and peak memory for 0.1, 1 and 10 million ratings.

    python -m ch03_autoencoder_rbm.train scaling
    python -m ch03_autoencoder_rbm.train scaling --ratings 100000 1000000
    python -m ch03_autoencoder_rbm.train scaling --ratings 10000000 100000000 --epochs 1    # streamed in ten parts

Each size is measured in a separate process. The peak memory is the process's maximum resident set size, including
Python and torch. More ratings than `--in-memory` are streamed: the users are divided into parts, and each part is
drawn again in every epoch, from its own seed, when it is needed. The seconds per epoch are those of the training steps.
"""

import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from ch03_autoencoder_rbm.films.recommender import Config as Recommender
from ch03_autoencoder_rbm.films.recommender import make_optimizer, train_step
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM
from ch03_autoencoder_rbm.films.sparse import Cases
from common import device as devices
from common import distributed
from common.config import RunOptions, require, require_positive
from common.data.ratings.planted import draw_films, draw_users
from common.data.source import DataCard
from common.progress import say, track
from common.run import Run

FILMS, RATED = 1_000, 100
"""Number of films, and mean number of ratings per user."""


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    ratings: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    """Numbers of synthetic ratings, each at least twice the previous one."""
    in_memory: int = 10_000_000
    """Largest number of ratings that are kept in memory; more are streamed in parts of at most this size."""
    epochs: int = 3
    """Number of timed epochs after a warm-up on one batch; the median is reported."""
    hidden_size: int = 100
    """Number of hidden units."""
    batch_size: int = 200
    """Batch size in users."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "ratings", "in_memory", "epochs", "hidden_size", "batch_size")
        require(len(self.ratings) > 0, "--ratings needs at least one number", "none")
        require(min(self.ratings) >= 1_000, "--ratings must be at least 1000", min(self.ratings))
        increasing = all(2 * one <= other for one, other in pairwise(self.ratings))
        require(increasing, "--ratings must increase, each to at least twice the previous number", self.ratings)


class Stream:
    """Synthetic ratings of many users in parts; a single part is kept, several are drawn when they are needed."""

    def __init__(self, ratings: int, in_memory: int, seed: int) -> None:
        users = -(-ratings // RATED)
        self.parts = -(-ratings // in_memory)
        self.sizes = [users * (part + 1) // self.parts - users * part // self.parts for part in range(self.parts)]
        """Number of users of each part."""
        self.seed = seed
        self.films = draw_films(FILMS, torch.Generator().manual_seed(seed))
        self.kept: Cases | None = None

    def draw(self, part: int) -> Cases:
        """Draw a part; the same part has the same ratings in every epoch."""
        if self.kept is not None:
            return self.kept
        generator = torch.Generator().manual_seed(self.seed * self.parts + part + 1)
        planted, _ = draw_users(self.sizes[part], self.films, RATED, generator)
        cases = Cases(planted.users, planted.films, planted.half_stars - 1, self.sizes[part])
        if self.parts == 1:
            self.kept = cases
        return cases

    def shuffled(self, generator: torch.Generator) -> Iterator[Cases]:
        """Iterate over the parts in random order."""
        for part in torch.randperm(self.parts, generator=generator).tolist():
            yield self.draw(part)


def measure(config: Config, ratings: int, threads: int) -> dict[str, float]:
    """Train on synthetic ratings; return their number, the seconds per epoch and the peak memory in MB."""
    devices.set_threads(threads)
    devices.seed_everything(config.run.seed)
    generator = torch.Generator().manual_seed(config.run.seed)
    stream = Stream(ratings, config.in_memory, config.run.seed)
    model = SoftmaxRBM(FILMS, 10, config.hidden_size)
    first = stream.draw(0)
    model.set_visible_bias(first.units, first.values)
    optimizer = make_optimizer(model, Recommender(), len(first.units) * stream.parts)
    train_step(model, optimizer, first.take(torch.arange(min(config.batch_size, len(first)))), k=1)
    del first
    seconds, counts = [], []
    for _ in range(config.epochs):
        trained, count = 0.0, 0
        for cases in stream.shuffled(generator):
            start = time.perf_counter()
            for batch in cases.shuffled(config.batch_size, generator):
                train_step(model, optimizer, batch, k=1)
            trained += time.perf_counter() - start
            count += len(cases.units)
        seconds.append(trained)
        counts.append(count)
    assert len(set(counts)) == 1, "the parts differ between epochs"
    return {"ratings": counts[0], "epoch": statistics.median(seconds), "peak": peak_memory()}


def peak_memory() -> float:
    """Return the maximum resident set size of this process in MB. Raises OSError on Windows."""
    try:
        import resource
    except ImportError:
        raise OSError("peak memory cannot be measured on Windows: use Linux or macOS") from None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage reports bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_alone(config: Config, ratings: int) -> dict[str, float]:
    """Measure in a new process. Raises MemoryError if the system kills it, as it does if memory runs out."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, config, ratings, torch.get_num_threads()).result()
        except BrokenProcessPool:
            raise MemoryError(f"{ratings:,} ratings do not fit in memory: reduce --ratings") from None


def short(count: int) -> str:
    """Abbreviate a count, as 100k or 10M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return str(count)


def train(config: Config, data: None = None) -> dict[str, float]:  # noqa: ARG001
    """Measure each size; return seconds per epoch, peak memory, and the exponent b of seconds = a ratings^b."""
    card = DataCard("planted", True, "", f"{' '.join(f'{n:,}' for n in config.ratings)} generated ratings")
    with Run.open(__name__, config, card, arithmetic="fp32") as run:
        require(distributed.world_size() == 1, "scaling measures one process", distributed.world_size())
        require(run.device.type == "cpu", "scaling measures on a CPU, so --device must be cpu", run.device)
        peak_memory()  # raise its error before the first measurement
        results: dict[str, float] = {}
        points: list[dict[str, Any]] = []
        for ratings in track(config.ratings, "sizes"):
            point = measure_alone(config, ratings)
            name = short(ratings)
            speed = point["ratings"] / point["epoch"]
            figures = f"{point['epoch']:.2f} s per epoch, {speed:,.0f} ratings/s, {point['peak']:,.0f} MB peak"
            say(name, f"{point['ratings']:,.0f} ratings: {figures}")
            results |= {f"epoch_seconds_{name}": point["epoch"], f"peak_mb_{name}": point["peak"]}
            points.append(point)
        if len(points) > 1:
            growth = points[-1]["ratings"] / points[0]["ratings"]
            results["growth_exponent"] = math.log(points[-1]["epoch"] / points[0]["epoch"]) / math.log(growth)
        report(run, points)
        return run.finish(run=results)


def report(run: Run, points: list[dict[str, Any]]) -> None:
    """Draw seconds per epoch and peak memory against the number of ratings."""
    from common.drawing import plots

    ratings = [point["ratings"] for point in points]
    panels = {
        "seconds per epoch": {"measured": (ratings, [point["epoch"] for point in points])},
        "peak memory, MB": {"measured": (ratings, [point["peak"] for point in points])},
    }
    figure = plots.line_panels(panels, columns=2, xlabel="ratings", log_x=True, log_y=True, marked=["measured"])
    run.figure("scaling", figure)
