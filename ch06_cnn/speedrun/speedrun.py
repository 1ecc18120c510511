"""The speed run: the highest CIFAR-10 accuracy within a training time budget; every technique has a switch.

    python -m ch06_cnn.train speedrun                        # one minute of training
    python -m ch06_cnn.train speedrun --budget 600           # ten minutes, a wider network
    python -m ch06_cnn.train speedrun --epochs 8             # a number of epochs: reproducible
    python -m ch06_cnn.train speedrun --no-whitening         # ablation of one technique

Network and techniques follow airbench (Jordan 2024): whitening, few wide convolutions, Muon, label smoothing,
alternating flips, test-time averaging over both mirror images.

Dimensions: B batch, N images, C channels, H height, W width, K classes (10, or those of a folder).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.class_names import count_classes, save_class_names
from ch06_cnn.convolution.augment import augment, random_flips
from ch06_cnn.convolution.cnn import measure, predict
from ch06_cnn.preprocessing import scaled
from ch06_cnn.speedrun.muon import ITERATIONS, Muon
from ch06_cnn.speedrun.whitening import whitening_filters
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.folder import PictureData, load_pictures
from common.data.images.image_set import ImageSet
from common.device import Timer
from common.run import Run, load_weights
from common.schedule import linear_at, out_of_time, progress

WIDTHS = {0: (32, 64, 128), 200: (32, 128, 256), 450: (64, 256, 256)}
"""Widths of the three blocks, with the smallest budget in seconds for which each is used."""

WHITENING_IMAGES = 5_000
"""Number of images from which the whitening filters are computed."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters and switches of the speed run."""

    data: PictureData = "auto"
    """Data set; auto takes CIFAR-10 if it is on disk or can be downloaded, else the embedded shapes. Or a folder with
    one folder of pictures per class."""
    budget: float = 60.0
    """Training time in seconds, including whitening, excluding evaluation; it also sets the learning-rate schedule."""
    epochs: int | None = None
    """Number of epochs, instead of a time budget; the schedule depends on the step, so the run is reproducible."""
    widths: tuple[int, int, int] | None = None
    """Number of filters of the three blocks. Default: 32 64 128; from a budget of 200 s 32 128 256; from 450 s
    64 256 256."""
    batch_size: int = 512
    """Batch size, over all processes."""
    optimizer: Literal["muon", "sgd"] = "muon"
    """Optimizer of the convolutions: Muon, or SGD with Nesterov momentum."""
    learning_rate: float = default_by("optimizer", muon=0.12, sgd=2.0)
    """Initial learning rate of the convolutions; it decays linearly to zero. Default: 0.12 for Muon, 2 for SGD."""
    muon_iterations: int = ITERATIONS
    """Newton-Schulz iterations per update of Muon."""
    whitening: bool = True
    """Compute the first layer as whitening filters instead of learning it."""
    identity: bool = True
    """Initialise each convolution as the identity instead of randomly."""
    label_smoothing: float = 0.2
    """Label smoothing: share of the target probability that is spread over all classes."""
    flip: Literal["alternating", "random", "none"] = "alternating"
    """Horizontal flips: alternating (each image in every second epoch), random, or none."""
    shift: int = 2
    """Maximum random shift, in pixels."""
    test_flip: bool = True
    """Average the logits of each image and its mirror image at test time."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "budget", "epochs", "widths", "batch_size", "learning_rate", "muon_iterations")
        require(0 <= self.label_smoothing < 1, "--label-smoothing must be at least 0 and below 1", self.label_smoothing)
        require(0 <= self.shift < 32, "--shift must be between 0 and 31", self.shift)


class SpeedNetwork(nn.Module):
    """Whitening layer, three blocks of two convolutions, global max pooling, one linear layer.

    Max pooling is before batch normalisation and activation, which reduces their work to a quarter. The scale of batch
    normalisation is fixed; the next layer can learn it.
    """

    def __init__(
        self, widths: tuple[int, int, int], classes: int = 10, *, learn_first: bool = False, identity: bool = True
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, kernel_size=2, bias=False).requires_grad_(learn_first)
        layers: list[nn.Module] = []
        channels = 24
        for width in widths:
            layers += [
                *self.convolution(channels, width, identity=identity, pool=True),
                *self.convolution(width, width, identity=identity, pool=False),
            ]
            channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / channels)  # maxima are large: small weights keep the logits small

    @staticmethod
    def convolution(channels: int, width: int, *, identity: bool, pool: bool) -> list[nn.Module]:
        """Return a 3x3 convolution, max pooling if `pool`, batch normalisation and activation."""
        convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        if identity:
            nn.init.dirac_(convolution.weight.data[:channels])
        norm = nn.BatchNorm2d(width, momentum=0.4)  # running statistics of the last few steps
        norm.weight.requires_grad_(False)
        return [convolution, *([nn.MaxPool2d(2)] if pool else []), norm, nn.SiLU()]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 32, 32) pixels -> (B, K) logits"""
        x = F.silu(self.first(pixels))
        return self.head(self.blocks(x).amax((2, 3)))


def default_widths(budget: float) -> tuple[int, int, int]:
    """Return the widths for a training budget in seconds."""
    return WIDTHS[max(smallest for smallest in WIDTHS if smallest <= budget)]


def make_model(config: Config, classes: int = 10) -> SpeedNetwork:
    """Build the network; its widths depend on the budget unless they are given."""
    widths = config.widths or default_widths(config.budget)
    model = SpeedNetwork(widths, classes, learn_first=not config.whitening, identity=config.identity)
    return model.to(memory_format=torch.channels_last)


class Optimizers:
    """Muon or SGD for the convolutions, SGD for biases and linear layer; all learning rates decay linearly to zero.

    Muon suits filters before batch normalisation, where only the direction of a filter matters. Biases and the linear
    layer need updates proportional to their gradients.
    """

    BIASES, HEAD, DECAY, MOMENTUM = 27.0, 0.02, 1e-3, 0.85
    """Initial learning rates of biases and linear layer, product of initial learning rate and weight decay, momentum.
    The biases' learning rate is large because the small weights of the last layer make their gradients small."""

    def __init__(self, model: SpeedNetwork, config: Config, *, bf16: bool = False) -> None:
        trainable = [p for p in model.parameters() if p.requires_grad and p is not model.head.weight]
        filters, biases = [p for p in trainable if p.ndim == 4], [p for p in trainable if p.ndim == 1]
        groups = [
            {"params": biases, "lr": self.BIASES, "weight_decay": self.DECAY / self.BIASES},
            {"params": [model.head.weight], "lr": self.HEAD, "weight_decay": self.DECAY / self.HEAD},
        ]
        if config.optimizer == "sgd":
            groups.append({"params": filters, "lr": config.learning_rate})
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SGD(groups, momentum=self.MOMENTUM, nesterov=True, fused=True)
        ]
        if config.optimizer == "muon":
            muon = Muon(filters, config.learning_rate, iterations=config.muon_iterations, bf16=bf16)
            self.optimizers.append(muon)
        self.initial = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def set_progress(self, done: float) -> None:
        """Set the learning rates for the given progress of the training, 0 ... 1."""
        for optimizer, initial_rates in zip(self.optimizers, self.initial, strict=True):
            for group, initial_rate in zip(optimizer.param_groups, initial_rates, strict=True):
                group["lr"] = linear_at(done, initial_rate)

    def step(self) -> None:
        """Take one step and reset the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def spectra(self) -> dict[int, Tensor]:
        """Return the sorted singular values of Muon's momentum after 0, 3 and 5 iterations; an empty dict for SGD."""
        muon = self.optimizers[-1]
        if not isinstance(muon, Muon) or not muon.state:
            return {}
        return {number: muon.spectrum(number).sort().values.cpu() for number in (0, 3, 5)}

    def state_dict(self) -> list[dict]:
        """Return the state of all optimizers."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, state: list[dict]) -> None:
        """Load the state of a checkpoint."""
        for optimizer, saved in zip(self.optimizers, state, strict=True):
            optimizer.load_state_dict(saved)


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


def flip_mask(initial: Tensor, epoch: int, flip: str) -> Tensor:
    """(B,) initial random mask -> (B,) flip mask of this epoch

    Alternating flips show both mirror images in any two consecutive epochs. Independent random flips show the same one
    twice for half of the images.
    """
    if flip == "alternating":
        return initial ^ bool(epoch % 2)
    return random_flips(len(initial), initial.device) if flip == "random" else torch.zeros_like(initial)


def classify(model: nn.Module, images: Tensor, config: Config, *, bf16: bool) -> Tensor:
    """(N, 3, 32, 32) uint8 -> (N, K) logits on the CPU, with --test-flip averaged over image and mirror image"""
    logits = predict(model, images, bf16=bf16)
    return (logits + predict(model, images.flip(3), bf16=bf16)) / 2 if config.test_flip else logits


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the network within the budget and return its test metrics."""
    data = data or load_pictures(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        initial_flips = torch.rand(len(data.train), generator=run.generator) < 0.5
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            initial_flips,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        model = make_model(config, len(data.class_names)).to(run.device)
        with Timer(run.device) as preparation:
            if config.whitening:
                images = scaled(data.train.pixels[:WHITENING_IMAGES].to(run.device), channels_last=False)
                model.first.weight.data.copy_(whitening_filters(images))
        parallel = distributed.wrap(model)
        optimizers = Optimizers(model, config, bf16=run.bf16)
        steps = None if config.epochs is None else config.epochs * len(batches)
        parts = {"model": model, "optimizers": optimizers}
        for epoch in run.epochs(config.epochs, len(batches), budget=config.budget, **parts):
            for step, (images, labels, initial) in enumerate(batches, start=(epoch - 1) * len(batches)):
                optimizers.set_progress(progress(step, steps, preparation.seconds + run.elapsed(), config.budget))
                augmented = augment(images, flip_mask(initial, epoch, config.flip), shift=config.shift)
                pixels = scaled(augmented, bf16=run.bf16)
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
        save_class_names(run, data.class_names)
        spectra = optimizers.spectra()
        if run.is_main:
            report(run, data, model, logits, spectra)
        medians = {f"median_singular_value_{n}": float(spectra[n].median()) for n in (3, 5) if n in spectra}
        return run.finish(test=measure(logits, data.test.labels), run=medians)


def report(run: Run, data: ImageSet, model: SpeedNetwork, logits: Tensor, spectra: dict[int, Tensor]) -> None:
    """Draw the curves, the confusion matrix, the filters of the first layer, and singular values of Muon's momentum."""
    from ch06_cnn.convolution.visualise import draw_filters
    from common.drawing import plots

    panels = {"loss": ["train_loss", "valid_loss"], "accuracy": ["valid_accuracy"]}
    run.figure("curves", plots.curves(run.history, panels))
    run.figure("confusion", plots.confusion_matrix(data.test.labels, logits.argmax(1), data.class_names))
    run.figure("filters", draw_filters(model.first.weight))
    if spectra:
        lines = {f"{n} iterations": (torch.linspace(0, 1, len(values)), values) for n, values in spectra.items()}
        title = "singular values of Muon's momentum"
        run.figure("spectrum", plots.line_panels({title: lines}, columns=1, xlabel="quantile", log_y=True, size=1.4))


def restore(folder: Path) -> tuple[SpeedNetwork, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = make_model(config, count_classes(make_model(config), folder))
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random images, with augmentation and scaling, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)
    initial_flips = random_flips(config.batch_size, device)
    model = make_model(config).to(device)
    bf16 = config.run.precision == "bf16"
    optimizers = Optimizers(model, config, bf16=bf16)

    def step() -> Tensor:
        augmented = augment(images, flip_mask(initial_flips, 1, config.flip), shift=config.shift)
        pixels = scaled(augmented, bf16=bf16)
        return train_step(model, optimizers, pixels, labels, label_smoothing=config.label_smoothing, bf16=bf16)

    return Workload(step, items=config.batch_size)
