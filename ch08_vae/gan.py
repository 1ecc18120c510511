"""The adversarial pair: a generator draws, a discriminator tells drawn from real, and each learns from the other.

    python -m ch08_vae.train gan
    python -m ch08_vae.train gan --data digits --epochs 100

    discriminator: minimise  E[log(1 + exp(-D(x)))] + E[log(1 + exp(D(G(z))))]     real up, drawn down
    generator:     minimise  E[log(1 + exp(-D(G(z))))]                             drawn up: "non-saturating"

Sources: Goodfellow et al. (2014), Generative Adversarial Nets; Radford, Metz & Chintala (2016), the DCGAN, whose
convolutions, batch-norm, leaky rectifiers and Adam with beta1 = 0.5 are here, for 28x28 pixels.

There is no likelihood to watch, and the losses say little. What can go wrong is collapse: the generator finds a few
digits that fool the discriminator and draws nothing else. So after each epoch the judge reads 1,000 drawings and counts
the classes, and their variety is measured beside that of real images.

Dimensions: B batch, N images, Z latent units.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae import sample_quality
from ch08_vae.classifier import features, fit_classifier, probabilities
from ch08_vae.film import ROW, Film
from ch08_vae.preprocessing import flat
from ch08_vae.schedule import WARM_UP
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

MONITORED = 1_000
"""Samples that are generated and measured after each epoch."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the adversarial pair."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Which images; auto takes MNIST where it is on disk or can be downloaded, else the embedded digits."""
    latent_size: int = 64
    """Random numbers that a drawing is made from."""
    width: int = 32
    """Channels at 14x14; twice as many at 7x7."""
    epochs: int | None = None
    """Passes over the training split; by default 5, and on a small set as many as make 1,000 steps."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 1e-3
    """Peak step size of Adam, for both networks, which warms up and anneals in one cycle."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "latent_size", "width", "epochs", "learning_rate")
        require(self.batch_size >= 2, "--batch-size must be at least 2: batch-norm compares images", self.batch_size)


class Generator(nn.Module):
    """From random numbers to a drawing, by two transposed convolutions."""

    def __init__(self, latent_size: int, width: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.layers = nn.Sequential(
            nn.Linear(latent_size, 2 * width * 7 * 7, bias=False),
            nn.Unflatten(1, (2 * width, 7, 7)),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, kernel_size=4, stride=2, padding=1, bias=False),  # 14x14
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, kernel_size=4, stride=2, padding=1),  # 28x28
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, 1, 28, 28) in [-1, 1]"""
        return self.layers(z)


class Discriminator(nn.Module):
    """From an image to one number: above zero for real."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=4, stride=2, padding=1),  # 14x14
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1, bias=False),  # 7x7
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * 7 * 7, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B,)"""
        return self.layers(images).float().squeeze(1)


class Pair(nn.Module):
    """Both networks, initialised as in the DCGAN paper: weights N(0, 0.02^2), batch-norm gains around one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.generator = Generator(config.latent_size, config.width)
        self.discriminator = Discriminator(config.width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(module.weight, 0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02)


def scaled(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> floats in [-1, 1], as the generator draws"""
    return images.float().div_(127.5).sub_(1)


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Adam with a short memory of the gradient, whose direction the other network keeps changing."""
    return torch.optim.Adam(model.parameters(), learning_rate, betas=(0.5, 0.999), fused=True)


def train_step(
    pair: Pair,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    real: Tensor,
    *,
    bf16: bool = False,
) -> tuple[Tensor, Tensor]:
    """Take one step of the discriminator, then one of the generator; return both losses, still on the device."""
    generator, discriminator = pair.generator, pair.discriminator
    generating, discriminating = optimizers
    z = torch.randn(len(real), generator.latent_size, device=real.device)
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
        drawn = generator(z)
        on_real, on_drawn = discriminator(real), discriminator(drawn.detach())
    loss = F.softplus(-on_real).mean() + F.softplus(on_drawn).mean()
    loss.backward()
    discriminating.step()
    discriminating.zero_grad()
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
        on_drawn = discriminator(drawn)
    fooled = F.softplus(-on_drawn).mean()
    fooled.backward()
    generating.step()
    generating.zero_grad()
    discriminating.zero_grad()  # the generator's loss went through it
    return loss.detach(), fooled.detach()


@torch.inference_mode()
def generate(generator: Generator, z: Tensor) -> Tensor:
    """(N, Z) -> (N, P) samples in [0, 1] on the CPU; batch normalisation uses its running statistics"""
    was_training = generator.training
    generator.eval()
    samples = torch.cat([generator(part).float().add(1).div(2).flatten(1).cpu() for part in z.split(1_000)])
    generator.train(was_training)
    return samples


def pixel_variance(images: Tensor) -> float:
    """(N, P) -> variance of a pixel over the images, averaged over the pixels: 0 if all images are the same"""
    return float(images.var(0, correction=0).mean())


def monitor(classifier: nn.Sequential, samples: Tensor, real: Tensor) -> dict[str, float]:
    """Measure signs of collapse in (N, P) samples: covered classes, and variety and distance compared with (M, P) real

    A variety of 1 is the pixel variance of the real images.
    """
    return {
        "classes": float(sample_quality.covered_classes(probabilities(classifier, samples))),
        "variety": pixel_variance(samples) / pixel_variance(real),
        "frechet_distance": sample_quality.frechet_distance(features(classifier, real), features(classifier, samples)),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Let the pair play; return what the judge says of the drawings."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "the gan learns in one process", distributed.world_size())
        require(len(data.train) >= 2, "--limit must leave at least 2 images", len(data.train))
        batches = Batches(data.train.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(5, 1_000 // len(batches))
        steps = epochs * len(batches)
        classifier, real = fit_classifier(data, run.device), flat(data.valid.pixels)
        pair = Pair(config).to(run.device)
        optimizers = (
            make_optimizer(pair.generator, config.learning_rate),
            make_optimizer(pair.discriminator, config.learning_rate),
        )
        film, z_of_film = Film(epochs), torch.randn(5 * ROW, config.latent_size, device=run.device)
        parts = {"pair": pair, "generating": optimizers[0], "discriminating": optimizers[1], "film": film}
        for epoch in run.epochs(epochs, len(batches), **parts):
            generator_loss = torch.zeros((), device=run.device)
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                learning_rate = one_cycle(step, steps, config.learning_rate, warm_up=WARM_UP)
                for optimizer in optimizers:
                    set_learning_rate(optimizer, learning_rate)
                if len(images) < 2:  # batch-norm has nothing to compare
                    images = images.repeat(2, 1, 1, 1)
                loss, loss_of_generator = train_step(pair, optimizers, scaled(images), bf16=run.bf16)
                generator_loss += loss_of_generator
                run.step(loss, images=len(images))
            film.take(epoch, partial(generate, pair.generator, z_of_film))
            samples = generate(pair.generator, torch.randn(MONITORED, config.latent_size, device=run.device))
            run.log(valid=monitor(classifier, samples, real) | {"generator_loss": float(generator_loss) / len(batches)})
        run.save(pair)
        count = sample_quality.sample_size(data)
        samples = generate(pair.generator, torch.randn(count, config.latent_size, device=run.device))
        report(run, probabilities(classifier, samples), samples, film)
        quality = sample_quality.measure_samples(classifier, samples, data)
        quality["variety"] = pixel_variance(samples) / pixel_variance(real)
        return run.finish(sample=quality, **sample_quality.measure_references(classifier, data))


def report(run: Run, probability: Tensor, samples: Tensor, film: Film) -> None:
    """Draw samples, the share of each predicted class, the curves of losses and signs of collapse, and the film."""
    from common.drawing import plots

    run.figure("samples", plots.mosaic(samples[:100].view(-1, 1, 28, 28), columns=ROW, title="generated samples"))
    share = probability.argmax(1).bincount(minlength=probability.shape[1]) / len(samples)
    names = [str(label) for label in range(len(share))]
    run.figure("classes", plots.bars(names, share.mul(100).tolist(), title="predicted classes", label="% of samples"))
    panels = {
        "loss": ["train_loss", "valid_generator_loss"],
        "classes covered": ["valid_classes"],
        "variety relative to real images": ["valid_variety"],
        "Fréchet distance": ["valid_frechet_distance"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    with run.writing("training.gif") as path:
        film.write(path)


def restore(folder: Path) -> tuple[Generator, Config]:
    """Rebuild the generator that a run saved."""
    config = read_config(folder, Config)
    pair = Pair(config)
    load_weights(pair, folder)
    return pair.generator.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """One step of each network on a batch of noise, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    pair = Pair(config).to(device)
    optimizers = (
        make_optimizer(pair.generator, config.learning_rate),
        make_optimizer(pair.discriminator, config.learning_rate),
    )
    bf16 = config.run.precision == "bf16"
    return Workload(lambda: train_step(pair, optimizers, scaled(images), bf16=bf16), items=config.batch_size)
