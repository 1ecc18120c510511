"""Throughput of augmentation and of convolutional networks, interleaved in one run.

    python -m ch06_cnn.train throughput
    python -m ch06_cnn.train throughput --batch-size 512

Three comparisons: batches of flipped and shifted images from a per-sample DataLoader with torchvision's transforms, or
from one gather per batch; training steps of the book's network in float32, with channels last, and in bfloat16; the
arithmetic rate of the speed run's training step relative to a matrix product. Chapter 4 measures how a per-sample
DataLoader affects training: `python -m ch04_cuda.train input_pipeline --network cnn`.

Dimensions: B batch, C channels, H height, W width.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ch06_cnn.convolution import cnn
from ch06_cnn.convolution.augment import augment, random_flips
from ch06_cnn.preprocessing import MIDDLE, SPREAD, scaled
from ch06_cnn.speedrun import speedrun
from common import distributed
from common.benchmark import interleaved, median_ratio, rate
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.data.images.per_sample import PerSample
from common.device import has_native_bf16
from common.progress import say
from common.run import Run

SHIFT = 4
"""Maximum shift in pixels, the same for the transforms and for the gather."""

SPEED_BATCH = 512
"""Batch size of the speed run's network: the default of its program."""

MATRIX = 2_048
"""Size of the square matrices whose product is the reference for arithmetic rates."""


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    data: Literal["auto", "cifar-10", "shapes"] = "auto"
    """Data set; auto takes CIFAR-10 if it is on disk or can be downloaded, else the embedded shapes."""
    batch_size: int = 128
    """Batch size."""
    rounds: int = 5
    """Number of measurement rounds after a warm-up round; every variant is timed once per round."""
    seconds: float = 1.0
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "rounds", "seconds")


def per_sample_dataset(split: Split) -> PerSample:
    """Create a per-sample data set: random crop and flip by torchvision's transforms, then normalisation."""
    from torchvision import transforms

    crop_and_flip = [transforms.RandomCrop(32, padding=SHIFT), transforms.RandomHorizontalFlip()]
    mean, std = (MIDDLE / 255,) * 3, (SPREAD / 255,) * 3
    return PerSample(
        split, transforms.Compose([*crop_and_flip, transforms.ToTensor(), transforms.Normalize(mean, std)])
    )


Variant = Callable[[], float]
"""Runs once and returns the amount of work: images, or billions of operations."""


def repeat(batches: Batches | DataLoader) -> Iterator[tuple[Tensor, ...]]:
    """Yield the batches again and again, without end."""
    while True:
        yield from batches


def transform(loader: Iterator[tuple[Tensor, ...]]) -> Variant:
    """Return a variant that loads a batch from a per-sample loader."""
    return lambda: len(next(loader)[0])


def gather(batches: Iterator[tuple[Tensor, ...]]) -> Variant:
    """Return a variant that makes a batch by one index operation, one gather and one conversion."""

    def run_once() -> float:
        images, _ = next(batches)
        return len(scaled(augment(images, random_flips(len(images), images.device), shift=SHIFT), bf16=True))

    return run_once


def train_from_memory(
    batches: Iterator[tuple[Tensor, ...]], device: torch.device, *, last: bool, bf16: bool
) -> Variant:
    """Return a variant that trains the book's network on a batch in memory, augmented by one gather."""
    settings = cnn.Config(channels_last=last)
    model = cnn.make_model(settings).to(device)
    optimizer = cnn.make_optimizer(model, settings.learning_rate, settings.weight_decay)

    def run_once() -> float:
        images, labels = next(batches)
        images = augment(images, random_flips(len(images), device), shift=SHIFT)
        cnn.train_step(model, optimizer, scaled(images, bf16=bf16, channels_last=last), labels, bf16=bf16)
        return len(labels)

    return run_once


def multiply(device: torch.device, *, bf16: bool) -> Variant:
    """Return a variant that multiplies two square matrices."""
    a, b = torch.randn(2, MATRIX, MATRIX, device=device).to(torch.bfloat16 if bf16 else torch.float32)

    def run_once() -> float:
        a @ b
        return 2 * MATRIX**3 / 1e9

    return run_once


def train_speed_network(device: torch.device, *, budget: float, bf16: bool) -> Variant:
    """Return a variant that takes one training step of the speed run's network for a budget."""
    options = RunOptions(precision="bf16" if bf16 else "fp32")
    workload = speedrun.workload(speedrun.Config(budget=budget, batch_size=SPEED_BATCH, run=options), device)
    with FlopCounterMode(display=False) as counter:
        workload.step()
    operations = counter.get_total_flops() / 1e9

    def run_once() -> float:
        workload.step()
        return operations

    return run_once


def summarise(rates: dict[str, list[float]], median: dict[str, float]) -> dict[str, float]:
    """Return the metrics: medians with the unit in their name, and ratios as medians over the rounds."""
    arithmetic = ("matrix_product", "speed_network", "wide_network")

    def ratio(ours: str, theirs: str) -> float:
        return median_ratio(rates[ours], rates[theirs])

    return {
        **{f"{n}_gflops" if n in arithmetic else f"{n}_images_per_second": value for n, value in median.items()},
        "gather_ratio": ratio("gather", "transforms"),
        **{f"{n}_ratio": ratio(n, "memory") for n in ("channels_last", "bf16") if n in rates},
        **{f"{name}_rate": ratio(name, "matrix_product") for name in ("speed_network", "wide_network")},
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Time all variants, interleaved; return the median rate of each, and medians of ratios within rounds."""
    data = data or load_images(config.data, preferred="cifar-10", limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "throughput compares within one process", distributed.world_size())
        device, bf16 = run.device, has_native_bf16(run.device)
        loader = repeat(DataLoader(per_sample_dataset(data.train), batch_size=config.batch_size, shuffle=True))
        stream = repeat(
            Batches(
                data.train.pixels,
                data.train.labels,
                batch_size=config.batch_size,
                device=device,
                generator=run.generator,
            )
        )
        variants: dict[str, Variant] = {
            "transforms": transform(loader),
            "gather": gather(stream),
            "memory": train_from_memory(stream, device, last=False, bf16=False),
            "channels_last": train_from_memory(stream, device, last=True, bf16=False),
            "bf16": train_from_memory(stream, device, last=True, bf16=True),
            "matrix_product": multiply(device, bf16=bf16),
            "speed_network": train_speed_network(device, budget=60, bf16=bf16),
            "wide_network": train_speed_network(device, budget=600, bf16=bf16),
        }
        if not bf16:
            say("skipped", f"bfloat16: {device} has no bfloat16 instructions; the speed networks run in float32")
            del variants["bf16"]
        rates = interleaved(variants, config.rounds, lambda variant: rate(variant, config.seconds, device))
        median = {name: statistics.median(values) for name, values in rates.items()}
        report(run, median)
        return run.finish(run=summarise(rates, median))


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the throughput of augmentation and of training."""
    from common.drawing import plots

    names = ["per sample", "per batch"]
    values = [median["transforms"], median["gather"]]
    title = f"batches of {run.config.batch_size} flipped and shifted images"
    run.figure("augmentation", plots.bars(names, values, title=title, label="images/s"))
    titles = {"memory": "fp32", "channels_last": "channels last, fp32", "bf16": "channels last, bf16"}
    shown = {title: median[name] for name, title in titles.items() if name in median}
    title = f"training the book's network with batches of {run.config.batch_size}"
    run.figure("throughput", plots.bars([*shown], [*shown.values()], title=title, label="images/s"))
