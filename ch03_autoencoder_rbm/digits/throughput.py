"""How images reach the network: a per-sample DataLoader against tensors that live in memory.

    python -m ch03_autoencoder_rbm.train throughput
    python -m ch03_autoencoder_rbm.train throughput --batch-size 512

The usual loop turns each image into a picture, then into a tensor, and normalises it, on its own and in Python, and
collects them into a batch. Ours selects the batch from one uint8 tensor and scales it at once. Network and loss are the
feed-forward's; so is the fused step, but for the usual loop, which takes torch's default.

Dimensions: B batch, P pixels (784).
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ch03_autoencoder_rbm.digits import feedforward
from common import distributed
from common.benchmark import by_turns, median_ratio
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.data.images.per_sample import PerSample
from common.device import Timer
from common.run import Run

MEAN, STD = 0.1307, 0.3081
"""Mean and standard deviation of MNIST's training pixels on [0, 1], as the usual loop normalises with them."""


@dataclass(frozen=True)
class Config:
    """What is compared, and for how long."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Which images; auto takes MNIST where it is on disk or can be downloaded, else the embedded digits."""
    batch_size: int = 128
    """Images a step."""
    loader_batch_size: int | None = None
    """Images a step for the DataLoader, by default as many as for the others."""
    rounds: int = 7
    """How often the three ways take turns, after a warm-up."""
    images: int = 6_000
    """Images that each way trains on in a round; more where that takes less than half a second."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "loader_batch_size", "rounds", "images")


def loader_stream(split: Split, config: Config, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised (B, P) pixels and labels for ever, from a shuffling DataLoader."""
    from torchvision.transforms import Normalize

    samples = PerSample(split, Normalize((MEAN,), (STD,)))
    loader = DataLoader(samples, batch_size=config.loader_batch_size or config.batch_size, shuffle=True)
    while True:
        for images, labels in loader:
            yield images.flatten(1).to(device), labels.to(device)


def resident_stream(split: Split, config: Config, run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scaled (B, P) pixels and labels for ever, selected from tensors on the device."""
    batches = Batches(
        split.pixels, split.labels, batch_size=config.batch_size, device=run.device, generator=run.generator
    )
    while True:
        for images, labels in batches:
            yield feedforward.scaled(images), labels


def trainer(stream: Iterator[tuple[Tensor, Tensor]], device: torch.device, *, plain: bool, bf16: bool) -> Callable:
    """Make a function that trains a network of its own on so many images of a stream, and counts them.

    A plain trainer takes torch's default optimizer step, the others the fused one.
    """
    model = feedforward.FeedForward().to(device)
    optimizer = feedforward.make_optimizer(model, feedforward.Config())
    for group in optimizer.param_groups:
        group["fused"] = None if plain else True

    def train_on(images: int) -> int:
        seen = 0
        while seen < images:
            pixels, labels = next(stream)
            feedforward.train_step(model, optimizer, pixels, labels, bf16=bf16)
            seen += len(labels)
        return seen

    return train_on


def speed(train_on: Callable[[int], int], images: int, device: torch.device) -> float:
    """Images a second of a trainer: half a second at least, and no fewer than so many images."""
    seen, seconds = 0, 0.0
    while seen < images or seconds < 0.5:
        with Timer(device) as timer:
            seen += train_on(images)
        seconds += timer.seconds
    return seen / seconds


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the same network in three ways by turns; return images a second of each, and their ratios."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "throughput compares within one process", distributed.world_size())
        loader = loader_stream(data.train, config, run.device)
        ways = {
            "dataloader": trainer(loader, run.device, plain=True, bf16=False),
            "fp32": trainer(resident_stream(data.train, config, run), run.device, plain=False, bf16=False),
            "bf16": trainer(resident_stream(data.train, config, run), run.device, plain=False, bf16=True),
        }
        speeds = by_turns(ways, config.rounds, lambda train_on: speed(train_on, config.images, run.device))
        median = {way: statistics.median(values) for way, values in speeds.items()}
        report(run, median)
        usual = speeds.pop("dataloader")
        return run.finish(
            run={
                **{f"{way}_images_per_second": images_per_second for way, images_per_second in median.items()},
                **{f"{way}_ratio": median_ratio(values, usual) for way, values in speeds.items()},
            }
        )


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the three speeds."""
    from common.drawing import plots

    title = f"training 784-300-100-10 with batches of {run.config.batch_size}"
    names = ["DataLoader", "in memory, fp32", "in memory, bf16"]
    run.figure("throughput", plots.bars(names, list(median.values()), title=title, label="images/s"))
