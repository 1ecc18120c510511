"""VAE, GAN and diffusion model at equal training time: one table, and samples side by side.

    python -m ch08_vae.train compare_generators
    python -m ch08_vae.train compare_generators --data mnist --budget 60

Each network is trained for --budget seconds with the default settings of its program; the learning rate follows the
share of the budget that is used. The networks take turns in one process, so all are affected alike if the machine is
busy. Measuring and sampling do not count.

Dimensions: B batch, N images, P pixels (784), K classes (10).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.adversarial import gan
from ch08_vae.autoencoding import vae
from ch08_vae.autoencoding.networks import initialise_output_bias
from ch08_vae.diffusion import diffusion
from ch08_vae.diffusion.sampling import generate
from ch08_vae.diffusion.schedule import make_schedule
from ch08_vae.evaluation import sample_quality
from ch08_vae.evaluation.classifier import accuracy, features, fit_classifier
from ch08_vae.evaluation.likelihood import decoded
from ch08_vae.film import ROW
from ch08_vae.preprocessing import CLASSES, binarised, flat
from common import distributed
from common.averaging import WeightAverage
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.device import synchronise
from common.progress import print_table, track
from common.run import Run
from common.schedule import one_cycle_at, set_learning_rate

Generator = Literal["vae", "conditional_vae", "gan", "diffusion"]
NAMES = {"vae": "VAE", "conditional_vae": "conditional VAE", "gan": "GAN", "diffusion": "diffusion"}
MONITORED = 500
"""Number of images to generate at each measurement during training, at most as many as validation images."""
ROWS = 3
"""Rows of samples of each network in the figure."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    generators: tuple[Generator, ...] = ("vae", "conditional_vae", "gan", "diffusion")
    """Networks to compare."""
    budget: float = 10.0
    """Training time of each network in seconds."""
    measurements: int = 5
    """Number of equally spaced measurements during training."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "budget", "measurements")
        require(len(self.generators) > 0, "--generators needs at least one network", "none")
        require(len(set(self.generators)) == len(self.generators), "--generators must differ", self.generators)


@dataclass
class Contestant:
    """A network with the two things that the comparison needs; it counts its own training time."""

    step: Callable[[float], None]
    """Take a training step; the argument is the share of the budget that is used, 0 to 1."""
    sample: Callable[[int], Tensor]
    """count -> (count, P) samples in [0, 1] on the CPU; a conditional network generates the classes in turn"""
    conditional: bool = False
    """Whether the network generates images of a given class."""
    seconds: float = 0.0
    """Training time so far."""
    steps: int = 0
    """Training steps so far."""

    def train(self, until: float, budget: float, device: torch.device) -> None:
        """Train until this many seconds are used, of a budget."""
        start = time.perf_counter() - self.seconds
        while self.seconds < until:
            self.step(self.seconds / budget)
            synchronise(device)
            self.seconds, self.steps = time.perf_counter() - start, self.steps + 1


def stream(run: Run, data: ImageSet, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield training images and labels without end, in a new order in every epoch."""
    order = torch.Generator().manual_seed(run.config.run.seed)
    tensors = data.train.pixels, data.train.labels
    batches = Batches(*tensors, batch_size=batch_size, device=run.device, generator=order)
    while True:
        yield from batches


def make_vae(run: Run, data: ImageSet, *, conditional: bool) -> Contestant:
    """Make a VAE with the settings of the program `vae`."""
    config = vae.Config(conditional=conditional)
    model, device = vae.make_model(config).to(run.device), run.device
    initialise_output_bias(model, data.train.pixels)
    optimizer, batches = vae.make_optimizer(model, config.learning_rate), stream(run, data, config.batch_size)

    def step(done: float) -> None:
        images, labels = next(batches)
        set_learning_rate(optimizer, one_cycle_at(done, config.learning_rate, warm_up=0.1))
        x, classes = binarised(images, config.binarisation), vae.one_hot(labels, config)
        beta = config.beta * min(1.0, done / config.warm_up)
        vae.train_step(model, optimizer, x, classes, beta=beta, bf16=run.bf16)

    def sample(count: int) -> Tensor:
        classes = F.one_hot(torch.arange(count, device=device) % CLASSES, CLASSES).float() if conditional else None
        return decoded(model, torch.randn(count, config.latent_size, device=device), classes)

    return Contestant(step, sample, conditional)


def make_gan(run: Run, data: ImageSet) -> Contestant:
    """Make a GAN with the settings of the program `gan`."""
    config = gan.Config()
    pair = gan.Pair(config).to(run.device)
    rate, batches = config.learning_rate, stream(run, data, config.batch_size)
    optimizers = gan.make_optimizer(pair.generator, rate), gan.make_optimizer(pair.discriminator, rate)

    def step(done: float) -> None:
        images, _ = next(batches)
        for optimizer in optimizers:
            set_learning_rate(optimizer, one_cycle_at(done, rate, warm_up=0.1))
        gan.train_step(pair, optimizers, gan.scaled(images), bf16=run.bf16)

    def sample(count: int) -> Tensor:
        return gan.generate(pair.generator, torch.randn(count, config.latent_size, device=run.device))

    return Contestant(step, sample)


def make_diffusion(run: Run, data: ImageSet) -> Contestant:
    """Make a diffusion model with the settings of the program `diffusion`."""
    config = diffusion.Config()
    schedule = make_schedule(config.schedule, config.timesteps, run.device)
    model = diffusion.make_model(config, 1).to(run.device)
    optimizer = diffusion.make_optimizer(model, config.learning_rate)
    average, batches = WeightAverage(model, config.averaging), stream(run, data, config.batch_size)

    def step(done: float) -> None:
        images, labels = next(batches)
        set_learning_rate(optimizer, one_cycle_at(done, config.learning_rate, warm_up=0.05))
        x_0, classes = diffusion.scaled(images), diffusion.dropped(labels, config)
        diffusion.train_step(model, optimizer, schedule, x_0, classes, bf16=run.bf16)
        average.update(model)

    def sample(count: int) -> Tensor:
        classes, shape = torch.arange(count, device=run.device) % CLASSES, data.train.pixels.shape[1:]
        sampler = config.settings
        images = generate(average.model, schedule, shape, classes, sampler, no_class=CLASSES, bf16=run.bf16)
        return images.flatten(1)

    return Contestant(step, sample, conditional=True)


def make_contestant(name: Generator, run: Run, data: ImageSet) -> Contestant:
    """Make the network with this name."""
    if name == "gan":
        return make_gan(run, data)
    return make_diffusion(run, data) if name == "diffusion" else make_vae(run, data, conditional=name != "vae")


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train every network for the same time; return the metrics of their samples and of real images."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "compare_generators trains in one process", distributed.world_size())
        require(len(data.train) >= 2, "--limit must leave at least 2 images", len(data.train))
        classifier = fit_classifier(data, run.device)
        contestants = {name: make_contestant(name, run, data) for name in config.generators}
        real, count = features(classifier, flat(data.valid.pixels)), min(MONITORED, len(data.valid))
        curves: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for number in track(range(1, config.measurements + 1), "measurements"):
            until = config.budget * number / config.measurements
            for name, contestant in contestants.items():
                contestant.train(until, config.budget, run.device)
                distance = sample_quality.frechet_distance(real, features(classifier, contestant.sample(count)))
                curves[name].append((contestant.seconds, distance))
        metrics, samples = measure(classifier, contestants, data)
        report(run, samples, curves)
        return run.finish(**metrics)


def measure(
    classifier: nn.Sequential, contestants: Mapping[str, Contestant], data: ImageSet
) -> tuple[dict[str, dict[str, float]], dict[str, Tensor]]:
    """Return the metrics of each network and of real images, and the samples; print the table."""
    count = sample_quality.sample_size(data)
    metrics: dict[str, dict[str, float]] = {}
    samples: dict[str, Tensor] = {}
    for name, contestant in contestants.items():
        samples[name] = contestant.sample(max(count, ROWS * ROW))
        metrics[name] = sample_quality.measure_samples(classifier, samples[name][:count], data)
        if contestant.conditional:
            labels = torch.arange(count) % CLASSES
            metrics[name]["accuracy"] = accuracy(classifier, samples[name][:count], labels)
        metrics[name]["steps"] = float(contestant.steps)
    metrics["real"] = sample_quality.measure_references(classifier, data)["real"]
    columns = ["frechet_distance", "precision", "recall", "sharpness", "classes", "accuracy", "steps"]
    rows = [[NAMES.get(name, name), *(found.get(each, "") for each in columns)] for name, found in metrics.items()]
    print_table(["", *(each.replace("_", " ") for each in columns)], rows, title="samples, and real images")
    return metrics, samples


def report(run: Run, samples: dict[str, Tensor], curves: dict[str, list[tuple[float, float]]]) -> None:
    """Draw samples side by side, and the Fréchet distance over the training time."""
    from common.drawing import plots

    rows = [images[: ROWS * ROW].view(-1, 1, 28, 28) for images in samples.values()]
    names = [name for each in samples for name in (NAMES[each], *[""] * (ROWS - 1))]
    run.figure("generators", plots.image_grid(torch.cat(rows), columns=ROW, row_names=names, size=0.55))
    lines = {NAMES[name]: ([s for s, _ in points], [d for _, d in points]) for name, points in curves.items()}
    panel = {"Fréchet distance from validation images": lines}
    figure = plots.line_panels(
        panel, columns=1, xlabel="training time in seconds", log_y=True, marked=list(lines), size=1.8
    )
    run.figure("training", figure)
