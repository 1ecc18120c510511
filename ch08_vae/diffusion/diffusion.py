"""Diffusion model (DDPM): a network learns to predict the noise in an image; sampling removes noise step by step.

    python -m ch08_vae.train diffusion
    python -m ch08_vae.train diffusion --schedule linear             # the schedule of Ho et al.
    python -m ch08_vae.train diffusion --sampler ancestral           # all 1,000 steps instead of 20 DDIM steps
    python -m ch08_vae.train diffusion --condition none              # without classes and guidance
    python -m ch08_vae.train diffusion --data shapes                 # colour images

    loss = E |epsilon - e(sqrt(abar_t) x_0 + sqrt(1 - abar_t) epsilon, t, class)|^2       t uniform in 1 ... T

Sources: Ho, Jain & Abbeel (2020), equation 14; Ho & Salimans (2022): the class is dropped in a tenth of the examples,
so that one network predicts the noise with and without it.

Dimensions: B batch, N images, C channels, H height, W width, K classes (10), T steps of the noising process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.diffusion import pictures
from ch08_vae.diffusion.network import UNet
from ch08_vae.diffusion.sampling import Sampler, generate
from ch08_vae.diffusion.schedule import Schedule, ScheduleName, add_noise, make_schedule
from ch08_vae.evaluation import sample_quality
from ch08_vae.evaluation.classifier import accuracy, features, fit_classifier, probabilities
from ch08_vae.film import ROW, Film
from ch08_vae.preprocessing import CLASSES, flat
from common import distributed
from common.averaging import WeightAverage
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

COLOUR = ("cifar-10", "shapes")
"""Data sets of 32x32 colour images; the others have 28x28 grey ones."""
MONITORED = 200
"""Number of images to generate and measure after selected epochs, in few steps and without guidance."""
QUICK = Sampler(steps=10)
GUIDANCE_SCALES, STEP_COUNTS = (0, 1, 2, 3, 5), (2, 5, 10, 20, 50, 100)
"""Guidance scales and numbers of DDIM steps for --compare."""
COMPARED = 500
"""Number of images to generate for each of these."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the diffusion model."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits", "cifar-10", "shapes"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    schedule: ScheduleName = "cosine"
    """Noise schedule: cosine (Nichol & Dhariwal 2021) or linear (Ho et al. 2020)."""
    timesteps: int = 1_000
    """Number of steps T of the noising process."""
    condition: Literal["class", "none"] = "class"
    """Condition the network on the class, or train it without classes."""
    drop_class: float = 0.1
    """Share of the training examples without their class, for classifier-free guidance."""
    width: int = 16
    """Number of channels at half the resolution of the image; it doubles at a quarter."""
    epochs: int | None = None
    """Number of epochs. Default: 8, or more on small data sets, for about 1,200 steps."""
    batch_size: int = 64
    """Batch size, over all processes."""
    learning_rate: float = 4e-3
    """Peak learning rate of AdamW (one-cycle schedule)."""
    averaging: float = 0.99
    """Decay of the moving average of the weights, which generates the images and is saved; 0 uses the last weights."""
    sampler: Literal["ddim", "ancestral"] = "ddim"
    """Sampler: DDIM (Song et al. 2021), or the ancestral step of Ho et al., which takes all T steps."""
    sampling_steps: int = 20
    """Number of DDIM steps."""
    eta: float = 0.0
    """Noise that each DDIM step adds: 0 none, 1 as much as the ancestral step."""
    guidance: float = default_by("condition", **{"class": 2.0, "none": 0.0})
    """Guidance scale: 0 ignores the class, 1 is the conditional model, larger values follow the class more closely.
    Default: 2 with classes, 0 without."""
    compare: bool = False
    """After training, also measure samples with several guidance scales and numbers of steps."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "width", "epochs", "batch_size", "learning_rate", "sampling_steps")
        require(self.timesteps >= 2, "--timesteps must be at least 2", self.timesteps)
        require(0 <= self.drop_class < 1, "--drop-class must be at least 0 and below 1", self.drop_class)
        require(0 <= self.averaging < 1, "--averaging must be at least 0 and below 1", self.averaging)
        check_sampler(self)

    @property
    def settings(self) -> Sampler:
        """Settings of the sampler."""
        return Sampler(self.sampler, self.sampling_steps, self.eta, self.guidance)


def check_sampler(config: Config) -> None:
    """Raise ValueError if the model of a Config cannot be sampled with its settings."""
    rule = f"--sampling-steps must be at most the {config.timesteps:,} steps of the noising process"
    require(config.sampling_steps <= config.timesteps, rule, config.sampling_steps)
    require(0 <= config.eta <= 1, "--eta must be between 0 and 1", config.eta)
    require(0 <= config.guidance < float("inf"), "--guidance must not be negative", config.guidance)
    conditional = config.condition == "class" or config.guidance == 0
    require(conditional, "--guidance needs a model with classes (--condition class)", config.guidance)
    unconditional = config.drop_class > 0 or config.guidance == 1 or config.condition == "none"
    require(
        unconditional,
        "--guidance other than 1 needs training examples without class: --drop-class must be above 0",
        config.guidance,
    )


def make_model(config: Config, channels: int) -> UNet:
    """Build the network that the Config names."""
    return UNet(channels, config.width, CLASSES).to(memory_format=torch.channels_last)


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Create a fused AdamW optimizer."""
    return torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.99), fused=True)


def scaled(images: Tensor) -> Tensor:
    """(B, C, H, W) uint8 -> floats in [-1, 1]"""
    return images.float().div_(127.5).sub_(1)


def dropped(labels: Tensor, config: Config) -> Tensor:
    """(B,) labels -> (B,) classes for a training step: K, which means no class, in a random share of the examples"""
    share = config.drop_class if config.condition == "class" else 1.0
    return torch.where(torch.rand(labels.shape, device=labels.device) < share, CLASSES, labels)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    x_0: Tensor,
    classes: Tensor,
    *,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step on (B, C, H, W) images and (B,) classes; return the loss, on the device."""
    t = torch.randint(1, schedule.steps + 1, (len(x_0),), device=x_0.device)
    epsilon = torch.randn_like(x_0)
    with torch.autocast(x_0.device.type, torch.bfloat16, enabled=bf16):
        prediction = model(add_noise(schedule, x_0, t, epsilon), t, classes)
    loss = F.mse_loss(prediction.float(), epsilon)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def noise_error(model: nn.Module, schedule: Schedule, split: Split, config: Config, *, bf16: bool = False) -> float:
    """Return the mean squared error of the predicted noise; image, time and noise are the same in every run."""
    device = next(model.parameters()).device
    generator, total = torch.Generator().manual_seed(0), 0.0
    for pixels, labels in zip(split.pixels.split(500), split.labels.split(500), strict=True):
        t = torch.randint(1, schedule.steps + 1, (len(pixels),), generator=generator).to(device)
        epsilon = torch.randn(pixels.shape, generator=generator).to(device)
        classes = labels if config.condition == "class" else torch.full_like(labels, CLASSES)
        x_t = add_noise(schedule, scaled(pixels.to(device)), t, epsilon)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            prediction = model(x_t, t, classes.to(device))
        total += float(F.mse_loss(prediction.float(), epsilon, reduction="sum"))
    return total / split.pixels.numel()


def classes_in_turn(count: int, config: Config, device: torch.device | str = "cpu") -> Tensor:
    """Return (count,) classes 0 ... K - 1 in turn, or K, no class, for a model without classes."""
    if config.condition == "none":
        return torch.full((count,), CLASSES, device=device)
    return torch.arange(count, device=device) % CLASSES


def draw(run: Run, model: UNet, schedule: Schedule, shape: Sequence[int], sampler: Sampler, count: int) -> Tensor:
    """Return (count, C, H, W) generated images in [0, 1] on the CPU, the classes in turn."""
    classes = classes_in_turn(count, run.config, run.device)
    return generate(model, schedule, shape, classes, sampler, no_class=CLASSES, bf16=run.bf16)


def compare_samplers(
    run: Run, model: UNet, schedule: Schedule, classifier: nn.Sequential, data: ImageSet
) -> dict[str, dict[str, float]]:
    """Return Fréchet distance from validation images and accuracy over guidance scales and numbers of steps."""
    config: Config = run.config
    real, found = features(classifier, flat(data.valid.pixels)), {}
    shape, count = data.valid.pixels.shape[1:], min(COMPARED, len(data.valid))
    samplers = {
        f"steps_{steps}": Sampler(steps=steps, guidance=config.guidance)
        for steps in STEP_COUNTS
        if steps <= config.timesteps
    }
    if config.condition == "class" and config.drop_class > 0:
        steps = min(20, config.timesteps)
        samplers |= {f"guidance_{scale}": Sampler(steps=steps, guidance=scale) for scale in GUIDANCE_SCALES}
    for name, sampler in samplers.items():
        samples = draw(run, model, schedule, shape, sampler, count).flatten(1)
        found[name] = {"frechet_distance": sample_quality.frechet_distance(real, features(classifier, samples))}
        if config.condition == "class":
            found[name]["accuracy"] = accuracy(classifier, samples, classes_in_turn(count, config))
    return found


def monitor(classifier: nn.Sequential, samples: Tensor, real: Tensor) -> dict[str, float]:
    """Return the covered classes and the Fréchet distance of (N, P) samples from (M, P) real images."""
    return {
        "classes": float(sample_quality.covered_classes(probabilities(classifier, samples))),
        "frechet_distance": sample_quality.frechet_distance(features(classifier, real), features(classifier, samples)),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the network; return its test loss and, for grey images, the metrics of samples and of the references."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        epochs = config.epochs or max(8, 1_200 // len(batches))
        steps = epochs * len(batches)
        shape = data.train.pixels.shape[1:]
        schedule = make_schedule(config.schedule, config.timesteps, run.device)
        model = make_model(config, shape[0]).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config.learning_rate)
        average = WeightAverage(model, config.averaging)
        film, quick = Film(epochs, pages=8), replace(QUICK, steps=min(QUICK.steps, config.timesteps))
        classifier = fit_classifier(data, run.device) if shape[0] == 1 else None  # it has 784 inputs
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer, average=average, film=film):
            for step, (images, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(optimizer, one_cycle(step, steps, config.learning_rate, warm_up=0.05))
                loss = train_step(parallel, optimizer, schedule, scaled(images), dropped(labels, config), bf16=run.bf16)
                average.update(model)
                run.step(loss, images=len(images))
            measures = {"loss": noise_error(average.model, schedule, data.valid, config, bf16=run.bf16)}
            if epoch in film.epochs:
                samples = draw(run, average.model, schedule, shape, quick, MONITORED)
                film.take(epoch, samples[: 5 * ROW].clone)
                if classifier is not None:
                    measures |= monitor(classifier, samples.flatten(1), flat(data.valid.pixels))
            run.log(valid=measures)
        run.save(average.model)
        metrics = evaluate(run, data, average.model, schedule, classifier, film) if run.is_main else {}
        return run.finish(**metrics)


def evaluate(
    run: Run, data: ImageSet, model: UNet, schedule: Schedule, classifier: nn.Sequential | None, film: Film
) -> dict[str, dict[str, float]]:
    """Return the metrics of the test set, of samples and of the references; draw the figures."""
    config: Config = run.config
    shape = data.test.pixels.shape[1:]
    metrics = {"test": {"loss": noise_error(model, schedule, data.test, config, bf16=run.bf16)}}
    count = sample_quality.sample_size(data) if classifier else ROW * ROW
    samples = draw(run, model, schedule, shape, config.settings, max(count, ROW * ROW))
    compared: dict[str, dict[str, float]] = {}
    if classifier:
        if config.compare:
            compared = compare_samplers(run, model, schedule, classifier, data)
        generated = samples[:count].flatten(1)
        metrics["sample"] = sample_quality.measure_samples(classifier, generated, data)
        if config.condition == "class":
            metrics["sample"]["accuracy"] = accuracy(classifier, generated, classes_in_turn(count, config))
        metrics |= compared | sample_quality.measure_references(classifier, data)
    classes = classes_in_turn(ROW, config, run.device)
    pictures.report(run, model, schedule, samples[: ROW * ROW], classes, compared, film, shape)
    return metrics


def restore(folder: Path) -> tuple[UNet, Schedule, Config]:
    """Load the trained network, its schedule and its Config from a run folder."""
    config = read_config(folder, Config)
    model = make_model(config, image_shape(config)[0])
    load_weights(model, folder)
    return model.eval(), make_schedule(config.schedule, config.timesteps), config


def image_shape(config: Config) -> tuple[int, int, int]:
    """Return channels, height and width of the images that a trained network generates."""
    return (3, 32, 32) if config.data in COLOUR else (1, 28, 28)


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on a batch of random images, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(CLASSES, (config.batch_size,), device=device)
    schedule = make_schedule(config.schedule, config.timesteps, device)
    model = make_model(config, 1).to(device)
    optimizer = make_optimizer(model, config.learning_rate)
    average = WeightAverage(model, config.averaging)
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        loss = train_step(model, optimizer, schedule, scaled(images), dropped(labels, config), bf16=bf16)
        average.update(model)
        return loss

    return Workload(step, items=config.batch_size)
