"""The book's convolutional network: three blocks of convolution, ReLU and max pooling, then two linear layers.

    python -m ch06_cnn.train cnn
    python -m ch06_cnn.train cnn --augment --batch-norm --no-dropout --learning-rate 3e-3 --epochs 30
    python -m ch06_cnn.train cnn --network linear --data shapes          # baselines without convolutions: linear,
    python -m ch06_cnn.train cnn --network mlp --data shapes             # and a multilayer perceptron
    python -m ch06_cnn.train cnn --data pets                 # a folder with one folder of pictures per class

Dimensions: B batch, N images, C channels, H height, W width, K classes (10, or those of a folder).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.class_names import count_classes, save_class_names
from ch06_cnn.convolution import layers, visualise
from ch06_cnn.convolution.augment import augment, random_flips
from ch06_cnn.preprocessing import scaled
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.folder import PictureData, load_pictures
from common.data.images.image_set import ImageSet
from common.run import Run, load_weights

DISCUSSED = ("bird", "cat")
"""Classes that the book's text discusses, because its network classifies them badly."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the convolutional network."""

    data: PictureData = "auto"
    """Data set; auto takes CIFAR-10 if it is on disk or can be downloaded, else the embedded shapes. Or a folder with
    one folder of pictures per class."""
    network: Literal["book", "linear", "mlp"] = "book"
    """Network: the book's, or a baseline without convolutions: one linear layer or a multilayer perceptron (MLP)."""
    layers: Literal["torch", "by-hand"] = "torch"
    """Layers: torch's, or those by hand in layers.py (slower, convolutions in float32)."""
    epochs: int | None = None
    """Number of epochs. Default: 10, or more on small data sets, for about 1,500 steps."""
    batch_size: int = 128
    """Batch size, over all processes."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW (one-cycle schedule)."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    batch_norm: bool = False
    """Batch normalisation after each convolution."""
    augment: bool = False
    """Augmentation: random flips, shifts by up to 4 pixels, and one erased 8x8 square."""
    dropout: bool = True
    """Dropout as in the book: rate 0.2 after each block (MLP: on the pixels), 0.55 before the last layer."""
    channels_last: bool = True
    """Memory format channels_last (NHWC) instead of torch's default (NCHW)."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)


class BookNetwork(nn.Module):
    """The book's network, with the layers of the module `kit`; convolutions before batch normalisation have no bias."""

    def __init__(self, classes: int = 10, *, kit: Any = nn, batch_norm: bool = False, dropout: bool = True) -> None:
        super().__init__()
        small, large = (0.2, 0.55) if dropout else (0.0, 0.0)

        def block(channels: int, filters: int) -> list[nn.Module]:
            norm = [kit.BatchNorm2d(filters)] if batch_norm else []
            convolution = kit.Conv2d(channels, filters, kernel_size=5, padding=1, bias=not batch_norm)
            return [convolution, *norm, nn.ReLU(), kit.MaxPool2d(2), kit.Dropout(small)]

        self.features = nn.Sequential(*block(3, 32), *block(32, 64), *block(64, 128))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), kit.Dropout(large), nn.Linear(256, classes)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.classifier(self.features(pixels))


class LinearNetwork(nn.Module):
    """One linear layer: the weights of each class are a template of the size of the image."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.templates = nn.Linear(3 * 32 * 32, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.templates(pixels.flatten(1))


class MLP(nn.Module):
    """Multilayer perceptron 3072-512-256-10: the book's network with one linear layer in place of the convolutions."""

    def __init__(self, classes: int = 10, *, dropout: bool = True) -> None:
        super().__init__()
        small, large = (0.2, 0.55) if dropout else (0.0, 0.0)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Dropout(small), nn.Linear(3 * 32 * 32, 512), nn.ReLU(),
            nn.Linear(512, 256), nn.ReLU(), nn.Dropout(large), nn.Linear(256, classes),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        return self.layers(pixels)


def make_model(config: Config, classes: int = 10) -> nn.Module:
    """Build the network that the Config names."""
    if config.network == "linear":
        return LinearNetwork(classes)
    if config.network == "mlp":
        return MLP(classes, dropout=config.dropout)
    kit = layers if config.layers == "by-hand" else nn
    model = BookNetwork(classes, kit=kit, batch_norm=config.batch_norm, dropout=config.dropout)
    return model.to(memory_format=torch.channels_last) if config.channels_last else model


def augmented(images: Tensor) -> Tensor:
    """(B, 3, 32, 32) uint8 -> the same shape: random flips, shifts by up to 4 pixels, one erased 8x8 square"""
    return augment(images, random_flips(len(images), images.device), shift=4, cutout=8)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one gradient step; return the loss, still on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = model(pixels)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Create a fused AdamW optimizer (Loshchilov & Hutter 2019) for all parameters."""
    return torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay, fused=True)


def one_cycle(optimizer: torch.optim.Optimizer, peak: float, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """Increase the learning rate for the first 30 % of the steps, then decrease it (one cycle, Smith 2018)."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, cycle_momentum=False)


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, *, bf16: bool = False, channels_last: bool = True) -> Tensor:
    """(N, 3, 32, 32) uint8 -> (N, K) logits on the CPU, in evaluation mode: no dropout, running statistics"""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        parts = [
            model(scaled(part.to(device), bf16=bf16, channels_last=channels_last)).float().cpu()
            for part in images.split(1_000)
        ]
    model.train(was_training)
    return torch.cat(parts)


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, K) logits, (N,) labels -> (K,) accuracy of each class; 1 for a class without images"""
    right = (logits.argmax(1) == labels).float()
    count = labels.bincount(minlength=logits.shape[1])
    return torch.where(count > 0, labels.bincount(right, minlength=len(count)) / count, 1.0)


def measure(logits: Tensor, labels: Tensor, class_names: tuple[str, ...] = ()) -> dict[str, float]:
    """Return accuracy, cross-entropy in nats, lowest class accuracy, and accuracies of the classes in DISCUSSED."""
    accuracies = class_accuracy(logits, labels)
    discussed = {
        f"{name}_accuracy": float(accuracies[class_names.index(name)]) for name in DISCUSSED if name in class_names
    }
    return {
        "accuracy": float((logits.argmax(1) == labels).float().mean()),
        "loss": float(F.cross_entropy(logits, labels)),
        "worst_class_accuracy": float(accuracies.min()),
        **discussed,
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the network and return its test metrics."""
    data = data or load_pictures(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        epochs = config.epochs or max(10, 1_500 // len(batches))
        model = make_model(config, len(data.class_names)).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config.learning_rate, config.weight_decay)
        schedule = one_cycle(optimizer, config.learning_rate, epochs * len(batches))
        layout = {"bf16": run.bf16, "channels_last": config.channels_last}
        for _ in run.epochs(epochs, len(batches), model=model, optimizer=optimizer, schedule=schedule):
            for images, labels in batches:
                if config.augment:
                    images = augmented(images)
                loss = train_step(parallel, optimizer, scaled(images, **layout), labels, bf16=run.bf16)
                schedule.step()
                run.step(loss, images=len(images))
            run.log(valid=measure(predict(model, data.valid.pixels, **layout), data.valid.labels))
        logits = predict(model, data.test.pixels, **layout)
        run.save(model)
        save_class_names(run, data.class_names)
        if run.is_main:
            report(run, data, model, logits)
        sample = data.train[: len(data.test)]  # as many training images as test images
        train_accuracy = float((predict(model, sample.pixels, **layout).argmax(1) == sample.labels).float().mean())
        test = measure(logits, data.test.labels, data.class_names)
        return run.finish(run={"train_accuracy": train_accuracy}, test=test)


def report(run: Run, data: ImageSet, model: nn.Module, logits: Tensor) -> None:
    """Write the book's two files; draw confusion matrix, class accuracies, errors, curves, filters and Grad-CAM."""
    from common.drawing import plots

    names, test, predictions = data.class_names, data.test, logits.argmax(1)
    for name, numbers in (
        ("testActual", test.labels),
        ("testPred", predictions),
    ):  # as in the book: one number per line
        with run.writing(f"{name}.txt") as path:
            path.write_text("".join(f"{number}\n" for number in numbers.tolist()))
    run.figure("confusion", plots.confusion_matrix(test.labels, predictions, names))
    accuracies = class_accuracy(logits, test.labels).mul(100).tolist()
    run.figure("classes", plots.bars(names, accuracies, title="test accuracy of each class", label="%"))
    losses = F.cross_entropy(logits, test.labels, reduction="none")
    wrong = losses.where(predictions != test.labels, 0).topk(min(24, int((predictions != test.labels).sum()))).indices
    if len(wrong):
        titles = [f"{names[test.labels[i]]}\n→ {names[predictions[i]]}" for i in wrong.tolist()]
        run.figure("mistakes", plots.image_grid(test.pixels[wrong], columns=8, titles=titles, size=1.0))
    panels = {
        "loss": ["train_loss", "valid_loss"],
        "accuracy": ["valid_accuracy", "valid_worst_class_accuracy"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    if run.config.augment:
        images = data.train.pixels[:8]
        rows = ["original", "augmented", "augmented"]
        pictures = torch.cat([images, *(augmented(images) for _ in rows[1:])])
        run.figure("augmented", plots.image_grid(pictures, columns=len(images), row_names=rows))
    if isinstance(model, BookNetwork):
        visualise.report(run, model.eval(), model.features, data, predictions)
    elif isinstance(model, LinearNetwork):
        run.figure("templates", visualise.draw_filters(model.templates.weight.view(-1, 3, 32, 32), names))


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
        pixels = scaled(augmented(images) if config.augment else images, bf16=bf16, channels_last=config.channels_last)
        return train_step(model, optimizer, pixels, labels, bf16=bf16)

    return Workload(step, items=config.batch_size)
