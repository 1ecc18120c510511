"""Throughput of the VAE's training step: autograd in float32 and bfloat16, and gradients written by hand.

    python -m ch08_vae.train throughput
    python -m ch08_vae.train throughput --batch-size 512

All variants train the vae program's network on its loss, on batches from one uint8 tensor in memory. Each variant
changes one thing in the previous one: `default` samples pixels with torch.bernoulli and uses PyTorch's default Adam in
float32, `random_bits` samples pixels from random bits, `fp32` uses fused Adam, `bf16` computes in bfloat16, and
`hand_bf16` is the step of by_hand.py.

Dimensions: B batch, P pixels (784).
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ch08_vae.autoencoding import vae
from ch08_vae.autoencoding.by_hand import HandWritten
from ch08_vae.preprocessing import binarised
from common import distributed
from common.benchmark import interleaved, median_ratio, rate
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    batch_size: int = 128
    """Batch size."""
    rounds: int = 7
    """Number of measurement rounds after a warm-up round; every variant is timed once per round."""
    seconds: float = 1.0
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "rounds", "seconds")


Variant = Callable[[], float]
"""Trains on one batch and returns its number of images."""


def stream(split: Split, config: Config, run: Run, *, bits: bool = True) -> Iterator[Tensor]:
    """Yield endless (B, P) batches of binary pixels, from random bits (see preprocessing.py) or torch.bernoulli."""
    batches = Batches(split.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
    while True:
        for (images,) in batches:
            yield binarised(images, "dynamic") if bits else torch.bernoulli(images.flatten(1) / 255)


def trainer(stream: Iterator[Tensor], device: torch.device, *, fused: bool = True, bf16: bool = False) -> Variant:
    """Return a variant that trains a new VAE on the next batch of a stream with autograd."""
    model = vae.make_model(vae.Config()).to(device)
    learning_rate = vae.Config.learning_rate
    if fused:
        optimizer = vae.make_optimizer(model, learning_rate)
    else:
        optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    return on_batches(stream, partial(vae.train_step, model, optimizer, bf16=bf16))


def trainer_by_hand(stream: Iterator[Tensor], device: torch.device) -> Variant:
    """Return a variant that trains a new VAE with gradients written by hand, in bfloat16."""
    hand = HandWritten(vae.make_model(vae.Config()).to(device), vae.Config.learning_rate, bf16=True)
    return on_batches(stream, hand.step)


def on_batches(stream: Iterator[Tensor], step: Callable[[Tensor], Tensor]) -> Variant:
    """Return a variant that takes a step on the next batch of a stream."""

    def train_on_a_batch() -> float:
        x = next(stream)
        step(x)
        return len(x)

    return train_on_a_batch


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Time all variants, interleaved; return images per second, and ratios to the first variant."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "throughput compares within one process", distributed.world_size())
        split, device = data.train, run.device
        variants = {
            "default": trainer(stream(split, config, run, bits=False), device, fused=False),
            "random_bits": trainer(stream(split, config, run), device, fused=False),
            "fp32": trainer(stream(split, config, run), device),
            "bf16": trainer(stream(split, config, run), device, bf16=True),
            "hand_bf16": trainer_by_hand(stream(split, config, run), device),
        }
        speeds = interleaved(variants, config.rounds, lambda variant: rate(variant, config.seconds, device))
        median = {name: statistics.median(values) for name, values in speeds.items()}
        report(run, median)
        default = speeds.pop("default")
        return run.finish(
            run={
                **{f"{name}_images_per_second": images_per_second for name, images_per_second in median.items()},
                **{f"{name}_ratio": median_ratio(values, default) for name, values in speeds.items()},
            }
        )


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the throughput of every variant."""
    from common.drawing import plots

    title = f"training the VAE with batches of {run.config.batch_size}"
    names = ["default Adam, fp32", "random bits, fp32", "fused Adam, fp32", "fused Adam, bf16", "by hand, bf16"]
    run.figure("throughput", plots.bars(names, list(median.values()), title=title, label="images/s"))
