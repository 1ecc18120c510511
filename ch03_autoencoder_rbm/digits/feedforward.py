"""Feed-forward digit classifier: 784-300-100-10.

    python -m ch03_autoencoder_rbm.train feedforward
    python -m ch03_autoencoder_rbm.train feedforward --loss book     # the book's loss, which can miss a class

Dimensions: B batch, N images, P pixels (784), K classes (10).
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.digits.book import book_loss
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

PIXEL_SCALE = 1 / 128
"""Scale of the pixels, to [0, 2): a power of two, so that bfloat16 represents every scaled pixel exactly."""

LOSSES = {"cross-entropy": F.cross_entropy, "book": book_loss}


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the feed-forward classifier."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    epochs: int | None = None
    """Passes over the training split; by default 10, more on a small set (1,000 steps)."""
    batch_size: int = 256
    """Batch size in images, of all processes together."""
    learning_rate: float = 4e-3
    """Maximum learning rate of AdamW; warms up and anneals in one cycle."""
    weight_decay: float = 0.01
    """Weight decay of AdamW, multiplied by the learning rate."""
    shift: int = 1
    """Data augmentation: maximum random shift of a training batch in pixels, in both directions; 0 disables it."""
    loss: Literal["cross-entropy", "book"] = "cross-entropy"
    """Loss function. cross-entropy; book: the book's -mean(y p), which lacks the logarithm."""
    write_images: bool = False
    """Write each test image to a file named as in the book: `{batch} - {item} - {label} - {guess}.jpg`."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(0 <= self.shift < 28, "--shift must be between 0 and 27", self.shift)


class FeedForward(nn.Module):
    """Classifier with two hidden layers and ReLU activations."""

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
    """(B, 1, 28, 28) uint8 -> (B, P) pixels in [0, 2)"""
    return images.flatten(1).float().mul_(PIXEL_SCALE)


def shifted(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """(B, 1, 28, 28) -> the images, all shifted by the same random offset; pixels wrap around

    MNIST's border is empty, so a shift by one pixel does not move a digit across it. One offset for the whole batch
    needs a single memory copy; each batch has a new offset.
    """
    if pixels == 0:
        return images
    offset = torch.randint(-pixels, pixels + 1, (2,), generator=generator).tolist()
    return images.roll(offset, dims=(2, 3))


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    labels: Tensor,
    *,
    loss: str = "cross-entropy",
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss as a tensor on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = model(pixels)
    value = LOSSES[loss](logits.float(), labels)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    return value.detach()


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Make the optimizer: fused AdamW (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True)


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """(N, 1, 28, 28) uint8 -> (N, K) logits on the CPU"""
    device = next(model.parameters()).device
    return torch.cat([model(scaled(part.to(device))).float().cpu() for part in images.split(2_000)])


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, K) logits, (N,) labels -> (K,) accuracy of each class; 1 for a class without images"""
    correct = (logits.argmax(1) == labels).float()
    count = labels.bincount(minlength=logits.shape[1])
    return torch.where(count > 0, labels.bincount(correct, minlength=len(count)) / count, 1.0)


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute the accuracy, the lowest per-class accuracy, and the cross-entropy in nats per image."""
    return {
        "accuracy": float((logits.argmax(1) == labels).float().mean()),
        "worst_class_accuracy": float(class_accuracy(logits, labels).min()),
        "loss": float(F.cross_entropy(logits, labels)),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the classifier and return its test metrics."""
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
    """Write the predictions; draw the confusion matrix, the misclassified images with the largest loss, and curves."""
    from common.drawing import plots

    names, test, predicted = data.class_names, data.test, logits.argmax(1)
    with run.writing("predictions.csv") as path:
        write_predictions(path, logits, test.labels)
    if config.write_images:
        write_images(run.folder / "images", test, predicted)
    run.figure("confusion", plots.confusion_matrix(test.labels, predicted, names))
    error_rates = (1 - class_accuracy(logits, test.labels)).mul(100).tolist()
    run.figure("classes", plots.bars(names, error_rates, title="test error rate of each class", label="%"))
    wrong = predicted != test.labels
    losses = F.cross_entropy(logits, test.labels, reduction="none").where(wrong, 0)
    worst = losses.topk(min(32, int(wrong.sum()))).indices
    if len(worst):
        titles = [f"{names[test.labels[i]]} as {names[predicted[i]]}" for i in worst.tolist()]
        run.figure("mistakes", plots.image_grid(test.pixels[worst], columns=8, titles=titles))
    panels = {
        "loss": ["train_loss", "valid_loss"],
        "accuracy": ["valid_accuracy", "valid_worst_class_accuracy"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def write_predictions(path: Path, logits: Tensor, labels: Tensor) -> None:
    """Write a CSV file with one row per image: index, label, predicted class (`guess`) and class probabilities."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["index", "label", "guess", *(f"p{label}" for label in range(logits.shape[1]))])
        for index, (label, row) in enumerate(zip(labels.tolist(), logits.softmax(1).tolist(), strict=True)):
            rows.writerow([index, label, row.index(max(row)), *(f"{p:.6f}" for p in row)])


def write_images(folder: Path, test: Split, predicted: Tensor, batch_size: int = 100) -> None:
    """Write each test image to a file named as in the book: batch, item, label and predicted class."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for index, (pixels, label, guess) in enumerate(
        zip(test.pixels, test.labels.tolist(), predicted.tolist(), strict=True)
    ):
        batch, item = divmod(index, batch_size)
        Image.fromarray(pixels[0].numpy()).save(folder / f"{batch} - {item} - {label} - {guess}.jpg")


def restore(folder: Path) -> tuple[FeedForward, Config]:
    """Load the classifier of a run folder."""
    config = read_config(folder, Config)
    model = FeedForward()
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Make the training step on a batch of random images for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)
    model = FeedForward().to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"
    return Workload(
        lambda: train_step(model, optimizer, scaled(images), labels, loss=config.loss, bf16=bf16),
        items=config.batch_size,
    )
