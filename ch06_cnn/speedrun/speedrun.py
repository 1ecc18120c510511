"""The speed run: as accurate on CIFAR-10 as so many seconds of training allow, every trick a switch.

    python -m ch06_cnn.train speedrun                        # a minute of training
    python -m ch06_cnn.train speedrun --budget 600           # ten, with a wider network
    python -m ch06_cnn.train speedrun --epochs 8             # by passes instead of by the clock: repeatable
    python -m ch06_cnn.train speedrun --no-whitening         # what is that trick worth?

Network and tricks are in the spirit of airbench (Jordan 2024): whitened input, few wide convolutions, Muon, label
smoothing, alternating flips, the mean over both mirror images at the test.

Dimensions: B batch, N images, C channels, H height, W width, K classes (10).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.convolution.augment import augment, coin
from ch06_cnn.convolution.cnn import measure, predict
from ch06_cnn.preprocessing import scaled
from ch06_cnn.speedrun.muon import Muon
from ch06_cnn.speedrun.whitening import whitening_filters
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import Timer
from common.run import Run, load_weights
from common.schedule import linear_at, out_of_time, progress

WIDTHS = {0: (32, 64, 128), 200: (32, 128, 256), 450: (64, 256, 256)}
"""Filters of the three blocks, by the least budget that deserves them: a wider network learns more and slower."""

WHITENED = 5_000
"""Images whose patches the first layer is computed from."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters and switches of the speed run."""

    data: Literal["auto", "cifar-10", "shapes"] = "auto"
    """Which images; auto takes CIFAR-10 where it is on disk or can be downloaded, else the embedded shapes."""
    budget: float = 60.0
    """Seconds of training, whitening included, evaluation apart. The schedule follows the clock."""
    epochs: int | None = None
    """Passes over the training split instead: the schedule follows the steps, and the run can be repeated."""
    widths: tuple[int, int, int] | None = None
    """Filters of the three blocks; by default those that suit the budget."""
    batch_size: int = 512
    """Images a step, over all processes together."""
    optimizer: Literal["muon", "sgd"] = "muon"
    """How the convolutions learn: orthogonal steps, or plain ones with Nesterov momentum."""
    learning_rate: float | None = None
    """First step size of the convolutions, which falls to zero; by default .12 for Muon, 2 for SGD."""
    whitening: bool = True
    """Compute the first layer; without it, learn it like the others."""
    identity: bool = True
    """Let each convolution start by passing its input on; without it, start from random filters."""
    label_smoothing: float = 0.2
    """Share of the target that is spread over all classes."""
    flip: Literal["alternating", "random", "none"] = "alternating"
    """Mirror each picture in every other epoch, or by a coin each time, or never."""
    shift: int = 2
    """Move each picture by up to that many pixels."""
    test_flip: bool = True
    """Classify by the mean of both mirror images; without it, by the image alone."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "budget", "epochs", "widths", "batch_size", "learning_rate")
        require(0 <= self.label_smoothing < 1, "--label-smoothing must be at least 0 and below 1", self.label_smoothing)
        require(0 <= self.shift < 32, "--shift must be between 0 and 31", self.shift)


class SpeedNetwork(nn.Module):
    """A whitening layer, three blocks of two convolutions, the largest answer of each map, one linear layer.

    Pooling comes before batch-norm and activation, which then have a quarter of the work. Batch-norm's scale is fixed:
    the next layer can learn it.
    """

    def __init__(self, widths: tuple[int, int, int], *, learn_first: bool = False, identity: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, kernel_size=2, bias=False).requires_grad_(learn_first)
        layers: list[nn.Module] = []
        channels = 24
        for width in widths:
            layers += [*self.unit(channels, width, identity, pool=True), *self.unit(width, width, identity, pool=False)]
            channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 10, bias=False)
        nn.init.normal_(self.head.weight, std=1 / channels)  # the largest answers are large: start undecided

    @staticmethod
    def unit(channels: int, width: int, identity: bool, *, pool: bool) -> list[nn.Module]:
        """A 3x3 convolution with what belongs to it."""
        convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        if identity:
            nn.init.dirac_(convolution.weight.data[:channels])
        norm = nn.BatchNorm2d(width, momentum=0.4)  # a short memory: a minute has few steps
        norm.weight.requires_grad_(False)
        return [convolution, *([nn.MaxPool2d(2)] if pool else []), norm, nn.SiLU()]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        x = F.silu(self.first(pixels))
        return self.head(self.blocks(x).amax((2, 3)))


def make_model(config: Config) -> SpeedNetwork:
    """Build the network that the Config asks for."""
    widths = config.widths or WIDTHS[max(least for least in WIDTHS if least <= config.budget)]
    model = SpeedNetwork(widths, learn_first=not config.whitening, identity=config.identity)
    return model.to(memory_format=torch.channels_last)


class Optimizers:
    """Muon for the convolutions, SGD for the rest, all with one schedule: a straight line from the first step to zero.

    Behind batch-norm only a filter's direction counts, so its step is an angle; biases and the linear layer need steps
    in the units of their gradients.
    """

    BIASES, HEAD, DECAY, MOMENTUM = 27.0, 0.02, 1e-3, 0.85
    """First step sizes of SGD's two groups, the share of a weight that decays in the first step, SGD's momentum. The
    biases' step looks large: what reaches them has come through the small weights of the last layer."""

    def __init__(self, model: SpeedNetwork, config: Config, *, bf16: bool = False) -> None:
        learned = [p for p in model.parameters() if p.requires_grad and p is not model.head.weight]
        filters, biases = [p for p in learned if p.ndim == 4], [p for p in learned if p.ndim == 1]
        groups = [
            {"params": biases, "lr": self.BIASES, "weight_decay": self.DECAY / self.BIASES},
            {"params": [model.head.weight], "lr": self.HEAD, "weight_decay": self.DECAY / self.HEAD},
        ]
        if config.optimizer == "sgd":
            groups.append({"params": filters, "lr": config.learning_rate or 2.0})
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.SGD(groups, momentum=self.MOMENTUM, nesterov=True, fused=True)
        ]
        if config.optimizer == "muon":
            self.parts.append(Muon(filters, config.learning_rate or 0.12, bf16=bf16))
        self.first = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def set_progress(self, done: float) -> None:
        """Let the next steps be of the size that this share of the training, 0 ... 1, asks for."""
        for part, sizes in zip(self.parts, self.first, strict=True):
            for group, size in zip(part.param_groups, sizes, strict=True):
                group["lr"] = linear_at(done, size)

    def step(self) -> None:
        """Take one step, and forget the gradients."""
        for part in self.parts:
            part.step()
            part.zero_grad()

    def state_dict(self) -> list[dict]:
        """Give the state of both."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict]) -> None:
        """Take over the state of an interrupted run."""
        for part, saved in zip(self.parts, state, strict=True):
            part.load_state_dict(saved)


def train_step(
    model: nn.Module,
    optimizers: Optimizers,
    pixels: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss, still on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = model(pixels)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    loss.backward()
    optimizers.step()
    return loss.detach()


def flips_of(first: Tensor, epoch: int, how: str) -> Tensor:
    """(B,) each picture's first coin -> (B,) whether to flip it in that epoch

    Alternating flips show each picture both ways within any two epochs; coins show half of them the same
    way twice.
    """
    if how == "alternating":
        return first ^ bool(epoch % 2)
    return coin(len(first), first.device) if how == "random" else torch.zeros_like(first)


def classify(model: nn.Module, images: Tensor, config: Config, *, bf16: bool) -> Tensor:
    """(N, 3, 32, 32) uint8 -> (N, K) logits on the CPU, the mean over both mirror images where the Config says so"""
    logits = predict(model, images, bf16=bf16)
    return (logits + predict(model, images.flip(3), bf16=bf16)) / 2 if config.test_flip else logits


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Fit the network within the budget and return its test metrics."""
    data = data or load_images(config.data, preferred="cifar-10", limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        coins = torch.rand(len(data.train), generator=run.generator) < 0.5
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            coins,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        model = make_model(config).to(run.device)
        with Timer(run.device) as preparation:
            if config.whitening:
                pictures = scaled(data.train.pixels[:WHITENED].to(run.device), channels_last=False)
                model.first.weight.data.copy_(whitening_filters(pictures))
        parallel = distributed.wrap(model)
        optimizers = Optimizers(model, config, bf16=run.bf16)
        steps = config.epochs and config.epochs * len(batches)
        for epoch in run.epochs(config.epochs, len(batches), model=model, optimizers=optimizers):
            for step, (images, labels, first) in enumerate(batches, start=(epoch - 1) * len(batches)):
                optimizers.set_progress(progress(step, steps, preparation.seconds + run.elapsed(), config.budget))
                pixels = scaled(augment(images, flips_of(first, epoch, config.flip), shift=config.shift), bf16=run.bf16)
                loss = train_step(
                    parallel, optimizers, pixels, labels, label_smoothing=config.label_smoothing, bf16=run.bf16
                )
                run.step(loss, images=len(images))
                if out_of_time(config.epochs, preparation.seconds + run.elapsed(), config.budget):
                    run.end()
                    break
            run.log(valid=measure(classify(model, data.valid.pixels, config, bf16=run.bf16), data.valid.labels))
        logits = classify(model, data.test.pixels, config, bf16=run.bf16)
        run.save(model)
        if run.is_main:
            report(run, data, model, logits)
        return run.finish(test=measure(logits, data.test.labels))


def report(run: Run, data: ImageSet, model: SpeedNetwork, logits: Tensor) -> None:
    """Draw the curves, what is confused, and the first layer's filters."""
    from ch06_cnn.convolution.visualise import draw_filters
    from common.drawing import plots

    panels = {"loss": ["train_loss", "valid_loss"], "accuracy": ["valid_accuracy"]}
    run.figure("curves", plots.curves(run.history, panels))
    run.figure("confusion", plots.confusion_matrix(data.test.labels, logits.argmax(1), data.class_names))
    run.figure("filters", draw_filters(model.first.weight))


def restore(folder: Path) -> tuple[SpeedNetwork, Config]:
    """Rebuild the network that a run saved."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of noise, augmentation and scaling included, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)
    first = coin(config.batch_size, device)
    model = make_model(config).to(device)
    bf16 = config.run.precision == "bf16"
    optimizers = Optimizers(model, config, bf16=bf16)

    def step() -> Tensor:
        pixels = scaled(augment(images, flips_of(first, 1, config.flip), shift=config.shift), bf16=bf16)
        return train_step(model, optimizers, pixels, labels, label_smoothing=config.label_smoothing, bf16=bf16)

    return Workload(step, items=config.batch_size)
