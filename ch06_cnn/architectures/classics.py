"""Ten classic architectures for 32x32 pixels, trained by one loop.

    python -m ch06_cnn.train classics                        # all ten, one table
    python -m ch06_cnn.train classics --network resnet --epochs 20
    python -m ch06_cnn.train classics --network stochastic-depth --epochs 20

Dimensions: B batch, N images, C channels, H height, W width, K classes (10, or those of a folder).
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ch06_cnn.architectures.alexnet import AlexNet
from ch06_cnn.architectures.densenet import DenseNet
from ch06_cnn.architectures.googlenet import GoogLeNet
from ch06_cnn.architectures.lenet import LeNet
from ch06_cnn.architectures.nin import NiN
from ch06_cnn.architectures.preactivation import PreActivationResNet
from ch06_cnn.architectures.resnet import ResNet
from ch06_cnn.architectures.stochastic_depth import StochasticDepthResNet
from ch06_cnn.architectures.vgg import VGG
from ch06_cnn.architectures.wide_resnet import WideResNet
from ch06_cnn.class_names import count_classes, save_class_names
from ch06_cnn.convolution.augment import augment, random_flips
from ch06_cnn.convolution.cnn import class_accuracy, make_optimizer, measure, one_cycle, predict, train_step
from ch06_cnn.preprocessing import scaled
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.folder import PictureData, load_pictures
from common.data.images.image_set import ImageSet
from common.progress import print_table
from common.run import Run, load_weights

NETWORKS: dict[str, type[nn.Module]] = {
    "lenet": LeNet,
    "alexnet": AlexNet,
    "vgg": VGG,
    "nin": NiN,
    "googlenet": GoogLeNet,
    "resnet": ResNet,
    "preactivation": PreActivationResNet,
    "stochastic-depth": StochasticDepthResNet,
    "wide": WideResNet,
    "densenet": DenseNet,
}
"""Architectures by name, roughly in order of publication."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters, the same for all networks."""

    data: PictureData = "auto"
    """Data set; auto takes CIFAR-10 if it is on disk or can be downloaded, else the embedded shapes. Or a folder with
    one folder of pictures per class."""
    network: Literal[
        "all", "lenet", "alexnet", "vgg", "nin", "googlenet", "resnet", "preactivation", "stochastic-depth", "wide",
        "densenet",
    ] = "all"  # fmt: skip
    """Architecture; all trains them one after the other, each in its own run."""
    epochs: int = 10
    """Number of epochs."""
    batch_size: int = 128
    """Batch size, over all processes."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW (one-cycle schedule)."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    augment: bool = True
    """Augmentation: random flips, and shifts by up to 4 pixels."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        if self.run.resume:
            require(self.network != "all", "--resume continues one network: name it with --network", self.network)


def make_model(config: Config, classes: int = 10) -> nn.Module:
    """Build the network that the Config names."""
    require(config.network != "all", "name one network with --network", config.network)
    return NETWORKS[config.network](classes).to(memory_format=torch.channels_last)


def cost(model: nn.Module) -> dict[str, float]:
    """Return the number of parameters, and the MFLOP of matrix products and convolutions for one image."""
    device = next(model.parameters()).device
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, 32, 32, device=device))
    model.train()
    return {"parameters": sum(p.numel() for p in model.parameters()), "megaflops": counter.get_total_flops() / 1e6}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train one network or all ten; return test metrics, for all ten with the name of the network as prefix."""
    data = data or load_pictures(config.data, limit=config.run.limit)
    if config.network != "all":
        return train_one(config, data)
    results = {name: train_one(replace(config, network=name), data) for name in NETWORKS}
    headings = ["network", "parameters", "MFLOP/image", "test accuracy", "train images/s", "train seconds"]
    rows = [
        (
            name,
            f"{metrics['parameters']:,.0f}",
            f"{metrics['megaflops']:,.1f}",
            f"{metrics['test_accuracy']:.2%}",
            f"{metrics['images_per_second']:,.0f}",
            f"{metrics['train_seconds']:,.0f}",
        )
        for name, metrics in results.items()
    ]
    print_table(headings, rows)
    return {f"{name}_{measure}": value for name, metrics in results.items() for measure, value in metrics.items()}


def train_one(config: Config, data: ImageSet) -> dict[str, float]:
    """Train one network and return its test metrics, number of parameters and MFLOP."""
    with Run.open(__name__, config, data.card) as run:
        alone = config.network != "stochastic-depth" or distributed.world_size() == 1  # others would drop other blocks
        require(alone, "--network stochastic-depth trains in one process", f"{distributed.world_size()} processes")
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        model = make_model(config, len(data.class_names)).to(run.device)
        costs = cost(model)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config.learning_rate, config.weight_decay)
        schedule = one_cycle(optimizer, config.learning_rate, config.epochs * len(batches))
        for _ in run.epochs(config.epochs, len(batches), model=model, optimizer=optimizer, schedule=schedule):
            for images, labels in batches:
                if config.augment:
                    images = augment(images, random_flips(len(images), images.device), shift=4)
                loss = train_step(parallel, optimizer, scaled(images, bf16=run.bf16), labels, bf16=run.bf16)
                schedule.step()
                run.step(loss, images=len(images))
            run.log(valid=measure(predict(model, data.valid.pixels, bf16=run.bf16), data.valid.labels))
        logits = predict(model, data.test.pixels, bf16=run.bf16)
        run.save(model)
        save_class_names(run, data.class_names)
        if run.is_main:
            report(run, data, logits)
        return run.finish(test=measure(logits, data.test.labels), run=costs)


def report(run: Run, data: ImageSet, logits: Tensor) -> None:
    """Draw the confusion matrix, the accuracy of each class, and learning curves."""
    from common.drawing import plots

    names = data.class_names
    run.figure("confusion", plots.confusion_matrix(data.test.labels, logits.argmax(1), names))
    accuracies = class_accuracy(logits, data.test.labels).mul(100).tolist()
    run.figure("classes", plots.bars(names, accuracies, title="test accuracy of each class", label="%"))
    panels = {"loss": ["train_loss", "valid_loss"], "accuracy": ["valid_accuracy"]}
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[nn.Module, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = make_model(config, count_classes(make_model(config), folder))
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random images, with augmentation and scaling, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)
    model = make_model(config).to(device)
    optimizer = make_optimizer(model, config.learning_rate, config.weight_decay)
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        batch = augment(images, random_flips(len(images), device), shift=4) if config.augment else images
        return train_step(model, optimizer, scaled(batch, bf16=bf16), labels, bf16=bf16)

    return Workload(step, items=config.batch_size)
