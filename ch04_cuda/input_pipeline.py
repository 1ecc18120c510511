"""How images reach the network: one by one through transforms, with workers, as tensors, or resident on the device.

    python -m ch04_cuda.train input_pipeline
    python -m ch04_cuda.train input_pipeline --batch-size 512 --workers 4

The network of chapter 3 computes for a few microseconds an image. Whatever else happens to an image before it counts
as much: opening it as a picture, two transforms, a copy into the batch. Workers do that in other processes, and pay
for the way back; a TensorDataset leaves only the copies; a batch selected from bytes on the device is one operation.

Dimensions: B batch, P pixels (784).
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ch04_cuda.networks import mlp, scaled, train_step
from common import distributed
from common.benchmark import by_turns, median_ratio, rate
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.data.images.per_sample import PerSample
from common.device import has_native_bf16
from common.progress import print_table, say
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
    workers: int = 2
    """Processes of the DataLoader that has some."""
    rounds: int = 5
    """How often the ways take turns, after a warm-up."""
    seconds: float = 0.5
    """How long each way trains in a round, at least."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "workers", "rounds", "seconds")


def usual_samples(split: Split) -> PerSample:
    """The images one at a time, normalised."""
    from torchvision.transforms import Normalize

    return PerSample(split, Normalize((MEAN,), (STD,)))


Stream = Iterator[tuple[Tensor, Tensor]]
"""Scaled (B, 1, 28, 28) pixels and (B,) labels on the device, for ever."""


def from_loader(dataset: Dataset, config: Any, device: torch.device, *, workers: int = 0) -> Stream:
    """Let a shuffling DataLoader collect samples into batches, pinned where they travel to a GPU."""
    pinned = device.type == "cuda"
    loader = DataLoader(
        dataset,
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pinned,
    )
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=pinned), labels.to(device, non_blocking=pinned)


def resident(split: Split, config: Any, device: torch.device, generator: torch.Generator | None = None) -> Stream:
    """Select batches from bytes that lie on the device, and scale each at once."""
    generator = generator or torch.Generator()
    batches = Batches(split.pixels, split.labels, batch_size=config.batch_size, device=device, generator=generator)
    while True:
        for images, labels in batches:
            yield scaled(images), labels


Way = Callable[[], float]
"""Trains on a batch, and returns how many images that were."""


def trainer(stream: Stream, device: torch.device, *, fused: bool = True, bf16: bool = False) -> Way:
    """Make a function that trains a network of its own on the next batch of a stream."""
    model = mlp().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=fused or None)

    def way() -> float:
        pixels, labels = next(stream)
        train_step(model, optimizer, pixels, labels, bf16=bf16)
        return len(labels)

    return way


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the same network from every source by turns; return images a second of each, and ratios."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "input_pipeline compares within one process", distributed.world_size())
        device, samples = run.device, usual_samples(data.train)
        tensors = TensorDataset(scaled(data.train.pixels), data.train.labels)
        ways = {
            "dataloader": trainer(from_loader(samples, config, device), device, fused=False),
            "workers": trainer(from_loader(samples, config, device, workers=config.workers), device, fused=False),
            "tensors": trainer(from_loader(tensors, config, device), device, fused=False),
            "resident": trainer(resident(data.train, config, device), device),
        }
        if has_native_bf16(device):
            ways["resident_bf16"] = trainer(resident(data.train, config, device), device, bf16=True)
        else:
            say("skipped", f"bfloat16: {device} does not multiply it natively")
        rates = by_turns(ways, config.rounds, lambda way: rate(way, config.seconds, device))
        median = {name: statistics.median(values) for name, values in rates.items()}
        ratios = {name: median_ratio(rates[name], rates["dataloader"]) for name in rates}
        report(run, median, ratios)
        return run.finish(
            run={
                **{f"{name}_images_per_second": value for name, value in median.items()},
                **{f"{name}_ratio": value for name, value in ratios.items() if name != "dataloader"},
            }
        )


def report(run: Run, median: dict[str, float], ratios: dict[str, float]) -> None:
    """Print and draw the speeds."""
    from common.drawing import plots

    config = run.config
    titles = {
        "dataloader": "DataLoader, one by one",
        "workers": f"DataLoader, {config.workers} workers",
        "tensors": "DataLoader of tensors",
        "resident": "resident bytes, fp32",
        "resident_bf16": "resident bytes, bf16",
    }
    rows = [(titles[name], f"{median[name]:,.0f}", f"{ratios[name]:.2f}") for name in median]
    print_table(["fed by", "images/s", "ratio"], rows, title=f"training 784-300-100-10, batches of {config.batch_size}")
    title = f"training 784-300-100-10 with batches of {config.batch_size}"
    run.figure(
        "throughput",
        plots.bars([titles[name] for name in median], list(median.values()), title=title, label="images/s"),
    )
