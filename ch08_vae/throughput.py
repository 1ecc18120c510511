"""What a step of the VAE costs: fed by a per-sample DataLoader or by tensors in memory, by autograd or by hand.

    python -m ch08_vae.train throughput
    python -m ch08_vae.train throughput --batch-size 512

The usual loop converts each image on its own, in Python, and collects them into a batch, then computes in float32. Ours
selects the batch from one uint8 tensor, and computes in float32 or bfloat16; the last way has its gradient written out.
Network and loss are the vae program's. The usual loop takes torch.bernoulli and torch's default Adam; ours draw four
coins from a 64-bit number, and take Adam in one fused step.

Dimensions: B batch, P pixels (784).
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ch08_vae import vae
from ch08_vae.by_hand import HandWritten
from ch08_vae.preprocessing import binarised
from common import distributed
from common.benchmark import by_turns, median_ratio
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.data.images.per_sample import PerSample
from common.device import Timer
from common.run import Run


@dataclass(frozen=True)
class Config:
    """What is compared, and for how long."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Which images; auto takes MNIST where it is on disk or can be downloaded, else the embedded digits."""
    batch_size: int = 128
    """Images a step."""
    rounds: int = 7
    """How often the ways take turns, after a warm-up."""
    seconds: float = 1.0
    """How long each way trains in a round, at least."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "rounds", "seconds")


def loader_stream(split: Split, config: Config, device: torch.device) -> Iterator[Tensor]:
    """Yield (B, P) zeros and ones for ever, from a shuffling DataLoader."""
    loader = DataLoader(PerSample(split), batch_size=config.batch_size, shuffle=True)
    while True:
        for images, _ in loader:
            yield torch.bernoulli(images.flatten(1).to(device))


def resident_stream(split: Split, config: Config, run: Run) -> Iterator[Tensor]:
    """Yield (B, P) zeros and ones for ever, selected from a tensor on the device."""
    batches = Batches(split.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
    while True:
        for (images,) in batches:
            yield binarised(images, "dynamic")


def trainer(stream: Iterator[Tensor], device: torch.device, *, plain: bool, bf16: bool) -> Callable[[], int]:
    """Make a function that trains a network of its own on one batch of a stream, and counts its images.

    A plain trainer takes torch's default optimizer step, the others the fused one.
    """
    model = vae.make_model(vae.Config()).to(device)
    rate = vae.Config.learning_rate
    optimizer = torch.optim.Adam(model.parameters(), rate) if plain else vae.make_optimizer(model, rate)
    return on_batches(stream, partial(vae.train_step, model, optimizer, bf16=bf16))


def trainer_by_hand(stream: Iterator[Tensor], device: torch.device) -> Callable[[], int]:
    """Make the same function with the step whose gradient is written out, in bfloat16."""
    hand = HandWritten(vae.make_model(vae.Config()).to(device), vae.Config.learning_rate, bf16=True)
    return on_batches(stream, hand.step)


def on_batches(stream: Iterator[Tensor], step: Callable[[Tensor], Tensor]) -> Callable[[], int]:
    """Make a function that takes a step on the next batch of a stream, and counts its images."""

    def train_on_a_batch() -> int:
        x = next(stream)
        step(x)
        return len(x)

    return train_on_a_batch


def speed(train_on_a_batch: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Images a second of a trainer, over so many seconds at least."""
    seen = 0
    with Timer(device) as timer:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            seen += train_on_a_batch()
    return seen / timer.seconds


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the same network in every way by turns; return images a second of each, and their ratios."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "throughput compares within one process", distributed.world_size())
        loader = loader_stream(data.train, config, run.device)
        ways = {
            "dataloader": trainer(loader, run.device, plain=True, bf16=False),
            "fp32": trainer(resident_stream(data.train, config, run), run.device, plain=False, bf16=False),
            "bf16": trainer(resident_stream(data.train, config, run), run.device, plain=False, bf16=True),
            "hand_bf16": trainer_by_hand(resident_stream(data.train, config, run), run.device),
        }
        speeds = by_turns(ways, config.rounds, lambda way: speed(way, config.seconds, run.device))
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
    """Draw the speeds."""
    from common.drawing import plots

    title = f"training the VAE with batches of {run.config.batch_size}"
    names = ["DataLoader, fp32", "in memory, fp32", "in memory, bf16", "by hand, bf16"]
    run.figure("throughput", plots.bars(names, list(median.values()), title=title, label="images/s"))
