"""Input pipelines: per-sample DataLoader, DataLoader with workers, TensorDataset, and data resident on the device.

    python -m ch04_cuda.train input_pipeline
    python -m ch04_cuda.train input_pipeline --batch-size 512 --loader-batch-size 64
    python -m ch04_cuda.train input_pipeline --network cnn --workers 4

All five variants train the same network, interleaved in one process. A per-sample loader converts each image to a PIL
image, applies two transforms and copies the result into the batch. Workers do this in other processes and send the
batches back. With a TensorDataset only the copies remain. A resident data set is one uint8 tensor on the device: a
batch is one index operation and one scaling. The loaders' variants use PyTorch's default SGD step, the resident ones
the fused step.

Dimensions: B batch, P pixels (784).
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ch04_cuda.networks import NETWORKS, WIDTHS, scaled, train_step
from common import distributed
from common.benchmark import interleaved, median_ratio, rate
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.data.images.per_sample import PerSample
from common.device import has_native_bf16
from common.progress import print_table, say
from common.run import Run

MEAN, STD = 0.1307, 0.3081
"""Mean and standard deviation of MNIST's training pixels in [0, 1], for the usual normalisation."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    network: Literal["mlp", "cnn", "lstm"] = "mlp"
    """Network to train. mlp: 784-300-100-10; cnn: two convolutions; lstm: an LSTM over the rows of an image."""
    batch_size: int = 128
    """Batch size in images."""
    loader_batch_size: int = 0
    """Batch size of the three DataLoaders in images; 0 uses --batch-size."""
    workers: int = 2
    """Number of worker processes of the second DataLoader, which is left out if it is 0."""
    rounds: int = 5
    """Rounds of measurement after a warm-up; every variant is timed once in each."""
    seconds: float = 0.5
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "rounds", "seconds")
        require(self.workers >= 0, "--workers must not be negative", self.workers)
        require(self.loader_batch_size >= 0, "--loader-batch-size must not be negative", self.loader_batch_size)


def per_sample_dataset(split: Split) -> PerSample:
    """Make the per-sample data set with the usual transforms: ToTensor and Normalize."""
    from torchvision.transforms import Compose, Normalize, ToTensor

    return PerSample(split, Compose([ToTensor(), Normalize((MEAN,), (STD,))]))


Stream = Iterator[tuple[Tensor, Tensor]]
"""Endless batches of scaled (B, 1, 28, 28) pixels and (B,) labels on the device."""


def from_loader(dataset: Dataset, batch_size: int, device: torch.device, *, workers: int = 0) -> Stream:
    """Yield batches of a shuffling DataLoader, from pinned memory if the device is a GPU."""
    pinned = device.type == "cuda"
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pinned,
    )
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=pinned), labels.to(device, non_blocking=pinned)


def resident(split: Split, batch_size: int, device: torch.device, generator: torch.Generator | None = None) -> Stream:
    """Yield batches that are indexed from uint8 tensors and scaled, both on the device."""
    generator = generator or torch.Generator()
    batches = Batches(split.pixels, split.labels, batch_size=batch_size, device=device, generator=generator)
    while True:
        for images, labels in batches:
            yield scaled(images), labels


Variant = Callable[[], float]
"""Trains on one batch and returns the number of its images."""


def trainer(
    stream: Stream, device: torch.device, *, network: str = "mlp", fused: bool = True, bf16: bool = False
) -> Variant:
    """Make a network for a stream; return a function that trains it on the next batch."""
    model = NETWORKS[network](WIDTHS[network]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=fused or None)

    def train_on_next_batch() -> float:
        pixels, labels = next(stream)
        train_step(model, optimizer, pixels, labels, bf16=bf16)
        return len(labels)

    return train_on_next_batch


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Time all input pipelines interleaved; return images per second and ratios to the per-sample DataLoader."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "input_pipeline compares within one process", distributed.world_size())
        device, batch_size = run.device, config.batch_size
        loader_batch_size = config.loader_batch_size or batch_size
        samples = per_sample_dataset(data.train)
        tensors = TensorDataset(scaled(data.train.pixels), data.train.labels)
        streams = {
            "dataloader": from_loader(samples, loader_batch_size, device),
            "workers": from_loader(samples, loader_batch_size, device, workers=config.workers),
            "tensors": from_loader(tensors, loader_batch_size, device),
            "resident": resident(data.train, batch_size, device),
            "resident_bf16": resident(data.train, batch_size, device),
        }
        if config.workers == 0:
            del streams["workers"]
        if not has_native_bf16(device):
            say("skipped", f"bfloat16: {device} has no native bfloat16 arithmetic")
            del streams["resident_bf16"]
        variants = {
            name: trainer(
                stream,
                device,
                network=config.network,
                fused=name.startswith("resident"),
                bf16=name == "resident_bf16",
            )
            for name, stream in streams.items()
        }
        rates = interleaved(variants, config.rounds, lambda variant: rate(variant, config.seconds, device))
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
    """Print and draw the throughput of every variant."""
    from common.drawing import plots

    config = run.config
    names = {
        "dataloader": "DataLoader, per sample",
        "workers": f"DataLoader, {config.workers} workers",
        "tensors": "DataLoader of tensors",
        "resident": "resident, fp32",
        "resident_bf16": "resident, bf16",
    }
    title = f"training the {config.network} with batches of {config.batch_size}"
    rows = [(names[name], f"{median[name]:,.0f}", f"{ratios[name]:.2f}") for name in median]
    print_table(["input pipeline", "images/s", "ratio"], rows, title=title)
    bars = plots.bars([names[name] for name in median], list(median.values()), title=title, label="images/s")
    run.figure("throughput", bars)
