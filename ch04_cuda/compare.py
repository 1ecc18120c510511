"""Train the same networks on every device of this machine: seconds per epoch, throughput and test accuracy.

    python -m ch04_cuda.train compare
    python -m ch04_cuda.train compare --networks mlp cnn lstm --epochs 3

Each network is trained on the CPU with all threads and with one, and on every GPU, in float32 and, if it is native, in
bfloat16. Initial weights, batches and their order are the same; epochs are interleaved. --device, --threads and
--precision have no effect. On a machine without a GPU, recorded results of a GPU are printed with machine and date, if
there are any.

Dimensions: B batch.
"""

import statistics
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from ch04_cuda.input_pipeline import Stream, resident
from ch04_cuda.networks import NETWORKS, WIDTHS, accuracy, scaled, train_step
from common import device as devices
from common import distributed
from common.benchmark import Variant, Workload, interleaved, median_ratio, variants
from common.config import RunOptions, require, require_positive
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import Timer
from common.files import read_json
from common.progress import print_table, say
from common.records.tables import RESULTS
from common.run import Run

RECORD = "gpu/compare"
"""Record of this program on a machine with a GPU, written by `make gpu`."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    networks: tuple[Literal["mlp", "cnn", "lstm"], ...] = ("mlp", "cnn")
    """Networks to train."""
    epochs: int = 1
    """Number of timed epochs after a warm-up epoch; the median is reported."""
    batch_size: int = 256
    """Batch size in images."""
    learning_rate: float = 0.1
    """Learning rate of SGD with momentum 0.9."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate")
        require(len(self.networks) > 0, "--networks needs at least one name", "none")


class Training:
    """Training of a network with one variant of device, threads and precision; weights and batches are the same."""

    def __init__(self, network: str, variant: Variant, data: ImageSet, config: Config) -> None:
        self.variant, self.size, self.batch_size = variant, len(data.train), config.batch_size
        self.device = torch.device(variant.device)
        devices.seed_everything(config.run.seed)
        self.model, self.optimizer = make_network(network, config, self.device)
        order = torch.Generator().manual_seed(config.run.seed)
        self.stream: Stream = resident(data.train, config.batch_size, self.device, order)

    def train_epoch(self) -> float:
        """Train for one epoch; return its seconds, synchronised with the device."""
        devices.set_threads(self.variant.threads)
        with Timer(self.device) as timer:
            for _ in range(-(-self.size // self.batch_size)):
                pixels, labels = next(self.stream)
                train_step(self.model, self.optimizer, pixels, labels, bf16=self.variant.precision == "bf16")
        return timer.seconds


def make_network(network: str, config: Config, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Make a network and its optimizer; the weights are sampled on the CPU, so they are the same on every device."""
    model = NETWORKS[network](WIDTHS[network]).to(device)
    return model, torch.optim.SGD(model.parameters(), config.learning_rate, momentum=0.9, fused=True)


HEADINGS = ("network", "place", "precision", "s/epoch", "images/s", "ratio", "test accuracy")


def name_of(variant: Variant) -> str:
    """Return the name of a variant in metrics, as cpu2_fp32 or cuda0_bf16."""
    place = f"cpu{variant.threads}" if variant.device == "cpu" else variant.device.replace(":", "")
    return f"{place}_{variant.precision}"


def row(network: str, variant: Variant, measured: dict[str, float]) -> tuple[str, ...]:
    """Format the measurements of one variant as a table row."""
    return (
        network,
        variant.place,
        variant.precision,
        f"{measured['epoch_seconds']:.2f}",
        f"{measured['images_per_second']:,.0f}",
        f"{measured['ratio']:.2f}",
        f"{measured['test_accuracy']:.2%}",
    )


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train every network with every variant, epochs interleaved; return seconds, accuracies and ratios."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "compare trains in one process", distributed.world_size())
        found: dict[str, float] = {}
        rows = []
        for network in config.networks:
            trainings = {name_of(variant): Training(network, variant, data, config) for variant in variants(network)}
            seconds = interleaved(trainings, config.epochs, Training.train_epoch)
            first = next(iter(seconds.values()))
            for name, training in trainings.items():
                measured = {
                    "epoch_seconds": statistics.median(seconds[name]),
                    "images_per_second": training.size / statistics.median(seconds[name]),
                    "ratio": median_ratio(first, seconds[name]),
                    "test_accuracy": accuracy(training.model, data.test.pixels, data.test.labels),
                }
                found |= {f"{network}_{name}_{measure}": value for measure, value in measured.items()}
                rows.append(row(network, training.variant, measured))
        print_table(HEADINGS, rows, title=f"trained for {config.epochs + 1} epochs of {len(data.train):,} images")
        report(run, found)
        if devices.present_devices() == ["cpu"]:
            show_record()
        return run.finish(run=found)


def report(run: Run, found: dict[str, float]) -> None:
    """Draw the throughput of every variant."""
    from common.drawing import plots

    speeds = {name.removesuffix("_images_per_second"): v for name, v in found.items() if name.endswith("per_second")}
    names = [name.replace("_", ", ") for name in speeds]
    run.figure("compare", plots.bars(names, list(speeds.values()), title="training on each device", label="images/s"))


def show_record() -> None:
    """Print the recorded results of a GPU, or the command that records them."""
    path = RESULTS / f"{RECORD}.json"
    if not path.exists():
        command = f"python -m common.records.ledger record {RECORD} -- ch04_cuda.train compare"
        say("no GPU", f"no recorded results; on a machine with a GPU, run {command}")
        return
    record = read_json(path)
    say("recorded", f"on {record['device']}, torch {record['versions']['torch']}, {record['date']}; not measured here:")
    for name, figure in record["metrics"].items():
        if name.endswith("_epoch_seconds"):
            say("", f"{name.removesuffix('_epoch_seconds').replace('_', ', ')}: {figure['mean']:.2f} s per epoch")


def workload(config: Config, device: torch.device) -> Workload:
    """Make the training step of the first network on a batch of random images for the device benchmark."""
    model, optimizer = make_network(config.networks[0], config, device)
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)
    bf16 = config.run.precision == "bf16"
    return Workload(lambda: train_step(model, optimizer, scaled(images), labels, bf16=bf16), items=config.batch_size)
