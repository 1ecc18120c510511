"""The feed-forward digit classifier: 784-300-100-10.

    python -m ch03_autoencoder_rbm.train feedforward
    python -m ch03_autoencoder_rbm.train feedforward --loss book     # as the book trains it: classes starve

Dimensions: B batch, N images, P pixels (784), K classes (10).
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

PIXEL_SCALE = 1 / 128
"""Brings pixels to [0, 2), about unit size. A power of two: bfloat16 holds every scaled pixel exactly."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the feed-forward classifier."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Which images; auto takes MNIST where it is on disk or can be downloaded, else the embedded digits."""
    epochs: int | None = None
    """Passes over the training split; by default 10, and on a small set as many as make 1,000 steps."""
    batch_size: int = 256
    """Images a step, over all processes together."""
    learning_rate: float = 4e-3
    """Peak step size of AdamW, which warms up and anneals in one cycle."""
    weight_decay: float = 0.01
    """Share of each weight that decays a step, times the step size."""
    shift: int = 1
    """Move each training batch by up to that many pixels, up or down and left or right; 0 leaves it in place."""
    loss: Literal["cross-entropy", "book"] = "cross-entropy"
    """cross-entropy, or the book's loss -mean(y p), which has no logarithm."""
    write_images: bool = False
    """Write every test image as the book does: one file named `{batch} - {item} - {label} - {guess}.jpg`."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(0 <= self.shift < 28, "--shift must be between 0 and 27", self.shift)


class FeedForward(nn.Module):
    """Two hidden layers of rectified linear units."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(784, 300),
            nn.ReLU(),
            nn.Linear(300, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, P) scaled pixels -> (B, K) logits"""
        return self.layers(pixels)


def scaled(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) floats in [0, 2)"""
    return images.flatten(1).float().mul_(PIXEL_SCALE)


def shifted(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """(B, 1, 28, 28) -> the same images, all moved by one random offset; what leaves on one side enters on the other.

    A digit means the same one pixel to the left, and MNIST's border is empty. One offset for a whole batch is one
    memory copy, and over the epochs each image meets every offset.
    """
    if pixels == 0:
        return images
    offset = torch.randint(-pixels, pixels + 1, (2,), generator=generator).tolist()
    return images.roll(offset, dims=(2, 3))


def book_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-mean(y p), with labels smoothed to 0.9 and 0.1 as in the book.

    Its gradient in the right class's logit is -0.08 p (1 - p) / B: where the network is sure and wrong (p near 0) it
    learns almost nothing. Cross-entropy's is -(1 - p) / B, largest where it is needed most.
    """
    y = 0.1 + 0.8 * F.one_hot(labels, logits.shape[1])
    return -(y * logits.softmax(dim=1)).mean()


LOSSES = {"cross-entropy": F.cross_entropy, "book": book_loss}


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    labels: Tensor,
    *,
    loss: str = "cross-entropy",
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss, still on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = model(pixels)
    value = LOSSES[loss](logits.float(), labels)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    return value.detach()


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), all parameters in one fused step."""
    return torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True)


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """(N, 1, 28, 28) uint8 -> (N, K) logits on the CPU"""
    device = next(model.parameters()).device
    return torch.cat([model(scaled(part.to(device))).float().cpu() for part in images.split(2_000)])


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, K) logits, (N,) labels -> (K,) share of each class that is recognised; 1 for a class without images"""
    right = (logits.argmax(1) == labels).float()
    count = labels.bincount(minlength=logits.shape[1])
    return torch.where(count > 0, labels.bincount(right, minlength=len(count)) / count, 1.0)


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, the accuracy of the class that fares worst, and cross-entropy in nats an image."""
    right = logits.argmax(1) == labels
    return {
        "accuracy": float(right.float().mean()),
        "worst_class_accuracy": float(class_accuracy(logits, labels).min()),
        "loss": float(F.cross_entropy(logits, labels)),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Fit the classifier and return its test metrics."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        epochs = config.epochs or max(10, 1_000 // len(batches))
        model = FeedForward().to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer):
            for step, (images, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(optimizer, one_cycle(step, epochs * len(batches), config.learning_rate))
                pixels = scaled(shifted(images, config.shift, run.generator))
                loss = train_step(parallel, optimizer, pixels, labels, loss=config.loss, bf16=run.bf16)
                run.step(loss, images=len(images))
            run.log(valid=measure(predict(model, data.valid.pixels), data.valid.labels))
        logits = predict(model, data.test.pixels)
        run.save(model)
        if run.is_main:
            report(run, data, logits, config)
        return run.finish(test=measure(logits, data.test.labels))


def report(run: Run, data: ImageSet, logits: Tensor, config: Config) -> None:
    """Write what a person looks at: every prediction, the confusion matrix, the worst mistakes, the curves."""
    from common.drawing import plots

    names, test, guesses = data.class_names, data.test, logits.argmax(1)
    with run.writing("predictions.csv") as path:
        write_predictions(path, logits, test.labels)
    if config.write_images:
        write_images(run.folder / "images", test, guesses)
    run.figure("confusion", plots.confusion_matrix(test.labels, guesses, names))
    missed = (1 - class_accuracy(logits, test.labels)).mul(100).tolist()
    run.figure("classes", plots.bars(names, missed, title="share of each class that is missed", label="%"))
    losses = F.cross_entropy(logits, test.labels, reduction="none")
    wrong = losses.where(guesses != test.labels, 0).topk(min(32, int((guesses != test.labels).sum()))).indices
    if len(wrong):
        titles = [f"{names[test.labels[i]]} as {names[guesses[i]]}" for i in wrong.tolist()]
        run.figure("mistakes", plots.image_grid(test.pixels[wrong], columns=8, titles=titles))
    panels = {
        "loss": ["train_loss", "valid_loss"],
        "accuracy": ["valid_accuracy", "valid_worst_class_accuracy"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def write_predictions(path: Path, logits: Tensor, labels: Tensor) -> None:
    """Write a row an image: its index, label, guess, and the ten probabilities."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["index", "label", "guess", *(f"p{label}" for label in range(logits.shape[1]))])
        for index, (label, row) in enumerate(zip(labels.tolist(), logits.softmax(1).tolist(), strict=True)):
            rows.writerow([index, label, row.index(max(row)), *(f"{p:.6f}" for p in row)])


def write_images(folder: Path, test: Split, guesses: Tensor, batch_size: int = 100) -> None:
    """Write each test image under the book's name for it, which tells batch, item, label and guess."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for index, (pixels, label, guess) in enumerate(
        zip(test.pixels, test.labels.tolist(), guesses.tolist(), strict=True)
    ):
        batch, item = divmod(index, batch_size)
        Image.fromarray(pixels[0].numpy()).save(folder / f"{batch} - {item} - {label} - {guess}.jpg")


def restore(folder: Path) -> tuple[FeedForward, Config]:
    """Rebuild the classifier that a run saved."""
    config = read_config(folder, Config)
    model = FeedForward()
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of noise, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)
    model = FeedForward().to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"
    return Workload(
        lambda: train_step(model, optimizer, scaled(images), labels, loss=config.loss, bf16=bf16),
        items=config.batch_size,
    )
