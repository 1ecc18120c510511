"""What feeding a convolutional network costs, and how much of the processor it uses: everything by turns, in one run.

    python -m ch06_cnn.train throughput
    python -m ch06_cnn.train throughput --batch-size 512

Three comparisons: batches of flipped and shifted pictures from a per-sample DataLoader with torchvision's transforms,
or by one gather each; the book's network trained from either, with channels last, in bfloat16; and the speed run's
network against this machine's matrix products.

Dimensions: B batch, C channels, H height, W width.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from ch06_cnn.convolution import cnn
from ch06_cnn.convolution.augment import augment, coin
from ch06_cnn.preprocessing import MIDDLE, SPREAD, scaled
from ch06_cnn.speedrun import speedrun
from common import distributed
from common.benchmark import by_turns, median_ratio, rate
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.device import has_native_bf16
from common.progress import say
from common.run import Run

SHIFT = 4
"""Pixels that a picture is moved by at most, in both ways of augmenting."""

MATRIX = 2_048
"""Rows and columns of the matrices whose product tells what this machine can do."""


@dataclass(frozen=True)
class Config:
    """What is compared, and for how long."""

    data: Literal["auto", "cifar-10", "shapes"] = "auto"
    """Which images; auto takes CIFAR-10 where it is on disk or can be downloaded, else the embedded shapes."""
    batch_size: int = 128
    """Images a step."""
    rounds: int = 5
    """How often the ways take turns, after a warm-up."""
    seconds: float = 1.0
    """How long each way runs in a round, at least."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "rounds", "seconds")


class PerSample(Dataset):
    """Images one at a time through torchvision's transforms, exactly as its own CIFAR-10 data set gives them."""

    def __init__(self, split: Split) -> None:
        from torchvision import transforms

        self.data, self.targets = split.pixels.permute(0, 2, 3, 1).contiguous().numpy(), split.labels.tolist()
        flip_and_shift = [transforms.RandomCrop(32, padding=SHIFT), transforms.RandomHorizontalFlip()]
        mean, std = (MIDDLE / 255,) * 3, (SPREAD / 255,) * 3
        self.transform = transforms.Compose([*flip_and_shift, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        picture = Image.fromarray(self.data[index])
        return self.transform(picture), self.targets[index]  # pyright: ignore[reportReturnType]


Way = Callable[[], float]
"""Does some work, and returns how much: images, or billions of operations."""


def for_ever(batches: Batches | DataLoader) -> Iterator[tuple[Tensor, ...]]:
    """Go through the data again and again."""
    while True:
        yield from batches


def transform(loader: Iterator[tuple[Tensor, ...]]) -> Way:
    """Make batches of numbers from pictures that are transformed one by one."""
    return lambda: len(next(loader)[0])


def gather(batches: Iterator[tuple[Tensor, ...]]) -> Way:
    """Make batches of numbers by one index, one gather and one conversion each."""

    def way() -> float:
        images, _ = next(batches)
        return len(scaled(augment(images, coin(len(images), images.device), shift=SHIFT), bf16=True))

    return way


def train_from_loader(loader: Iterator[tuple[Tensor, ...]], device: torch.device) -> Way:
    """Train the book's network the usual way: DataLoader, float32, torch's own layout and optimizer step."""
    plain = cnn.Config(channels_last=False)
    model = cnn.make_model(plain).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), plain.learning_rate)

    def way() -> float:
        pixels, labels = next(loader)
        cnn.train_step(model, optimizer, pixels.to(device), labels.to(device))
        return len(labels)

    return way


def train_from_memory(batches: Iterator[tuple[Tensor, ...]], device: torch.device, *, last: bool, bf16: bool) -> Way:
    """Train the book's network from tensors in memory, augmented by one gather."""
    settings = cnn.Config(channels_last=last)
    model = cnn.make_model(settings).to(device)
    optimizer = cnn.make_optimizer(model, settings.learning_rate, settings.weight_decay)

    def way() -> float:
        images, labels = next(batches)
        images = augment(images, coin(len(images), device), shift=SHIFT)
        cnn.train_step(model, optimizer, scaled(images, bf16=bf16, channels_last=last), labels, bf16=bf16)
        return len(labels)

    return way


def multiply(device: torch.device, *, bf16: bool) -> Way:
    """Multiply two matrices, over and over."""
    a, b = torch.randn(2, MATRIX, MATRIX, device=device).to(torch.bfloat16 if bf16 else torch.float32)

    def way() -> float:
        a @ b
        return 2 * MATRIX**3 / 1e9

    return way


def train_speed_network(device: torch.device, *, budget: float, bf16: bool) -> Way:
    """Train the speed run's network of a budget; count its convolutions and matrix products."""
    options = RunOptions(precision="bf16" if bf16 else "fp32")
    workload = speedrun.workload(speedrun.Config(budget=budget, run=options), device)
    with FlopCounterMode(display=False) as counter:
        workload.step()
    operations = counter.get_total_flops() / 1e9

    def way() -> float:
        workload.step()
        return operations

    return way


def summarise(rates: dict[str, list[float]], median: dict[str, float]) -> dict[str, float]:
    """Name the medians by their units, and compare what took turns, round by round."""
    computing = ("matrix_product", "speed_network", "wide_network")

    def ratio(ours: str, theirs: str) -> float:
        return median_ratio(rates[ours], rates[theirs])

    return {
        **{f"{n}_gflops" if n in computing else f"{n}_images_per_second": value for n, value in median.items()},
        "gather_ratio": ratio("gather", "transforms"),
        **{f"{n}_ratio": ratio(n, "dataloader") for n in ("memory", "channels_last", "bf16") if n in rates},
        **{f"{name}_rate": ratio(name, "matrix_product") for name in ("speed_network", "wide_network")},
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Run every way by turns; return the median rate of each, and ratios within the rounds."""
    data = data or load_images(config.data, preferred="cifar-10", limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "throughput compares within one process", distributed.world_size())
        device, bf16 = run.device, has_native_bf16(run.device)
        loader = for_ever(DataLoader(PerSample(data.train), batch_size=config.batch_size, shuffle=True))
        stream = for_ever(
            Batches(
                data.train.pixels,
                data.train.labels,
                batch_size=config.batch_size,
                device=device,
                generator=run.generator,
            )
        )
        ways: dict[str, Way] = {
            "transforms": transform(loader),
            "gather": gather(stream),
            "dataloader": train_from_loader(loader, device),
            "memory": train_from_memory(stream, device, last=False, bf16=False),
            "channels_last": train_from_memory(stream, device, last=True, bf16=False),
            "bf16": train_from_memory(stream, device, last=True, bf16=True),
            "matrix_product": multiply(device, bf16=bf16),
            "speed_network": train_speed_network(device, budget=60, bf16=bf16),
            "wide_network": train_speed_network(device, budget=600, bf16=bf16),
        }
        if not bf16:
            say("skipped", f"bfloat16: {device} does not multiply it natively; the speed networks run in float32")
            del ways["bf16"]
        rates = by_turns(ways, config.rounds, lambda way: rate(way, config.seconds, device))
        median = {name: statistics.median(values) for name, values in rates.items()}
        report(run, median)
        return run.finish(run=summarise(rates, median))


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the speeds of augmentation and of training."""
    from common.drawing import plots

    names = ["one by one", "one gather"]
    values = [median["transforms"], median["gather"]]
    title = f"batches of {run.config.batch_size} flipped and shifted pictures"
    run.figure("augmentation", plots.bars(names, values, title=title, label="images/s"))
    ways = {
        "dataloader": "DataLoader, fp32",
        "memory": "in memory, fp32",
        "channels_last": "channels last, fp32",
        "bf16": "channels last, bf16",
    }
    shown = {title: median[way] for way, title in ways.items() if way in median}
    title = f"training the book's network with batches of {run.config.batch_size}"
    run.figure("throughput", plots.bars([*shown], [*shown.values()], title=title, label="images/s"))
