"""Generative adversarial network (GAN): a generator and a discriminator, trained against each other.

    python -m ch08_vae.train gan
    python -m ch08_vae.train gan --data digits --epochs 100

    discriminator: minimise  E[log(1 + exp(-D(x)))] + E[log(1 + exp(D(G(z))))]     binary cross-entropy of its logits D
    generator:     minimise  E[log(1 + exp(-D(G(z))))]                             the "non-saturating" loss

Sources: Goodfellow et al. (2014), Generative Adversarial Nets; Radford, Metz & Chintala (2016), the DCGAN, whose
convolutions, batch normalisation, leaky ReLUs and Adam with beta1 = 0.5 are used here, for 28x28 pixels.

A GAN has no likelihood, and its losses do not measure the quality of samples. After each epoch, three quantities of
1,000 samples are therefore measured: the number of classes and the variety, which both decrease in a mode collapse, and
the Fréchet distance from validation images.

Dimensions: B batch, N and M images, P pixels (784), Z latent units.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.evaluation import sample_quality
from ch08_vae.evaluation.classifier import features, fit_classifier, probabilities
from ch08_vae.film import ROW, Film
from ch08_vae.preprocessing import flat
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

MONITORED = 1_000
"""Number of samples to generate and measure after each epoch."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the GAN."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    latent_size: int = 64
    """Number of latent units Z: size of the generator's input, a standard normal vector."""
    width: int = 32
    """Number of channels at 14x14 pixels; it doubles at 7x7."""
    epochs: int | None = None
    """Number of epochs. Default: 5, or more on small data sets, for about 1,000 steps."""
    batch_size: int = 128
    """Batch size."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam for both networks (one-cycle schedule)."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "latent_size", "width", "epochs", "learning_rate")
        require(self.batch_size >= 2, "--batch-size must be at least 2, for batch normalisation", self.batch_size)


class Generator(nn.Module):
    """Map a latent vector to an image by two transposed convolutions."""

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
    """Map an image to a logit: positive for real, negative for generated."""

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
        """(B, 1, 28, 28) images -> (B,) logits"""
        return self.layers(images).float().squeeze(1)


class Pair(nn.Module):
    """Generator and discriminator, initialised as in the DCGAN paper: weights N(0, 0.02^2), gains N(1, 0.02^2)."""

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
    """(B, 1, 28, 28) uint8 -> floats in [-1, 1], the range of the generator"""
    return images.float().div_(127.5).sub_(1)


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Create a fused Adam optimizer with beta1 = 0.5, as in the DCGAN."""
    return torch.optim.Adam(model.parameters(), learning_rate, betas=(0.5, 0.999), fused=True)


def train_step(
    pair: Pair,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    real: Tensor,
    *,
    bf16: bool = False,
) -> tuple[Tensor, Tensor]:
    """Take one step of the discriminator, then one of the generator; return both losses, on the device."""
    generator, discriminator = pair.generator, pair.discriminator
    generator_optimizer, discriminator_optimizer = optimizers
    z = torch.randn(len(real), generator.latent_size, device=real.device)
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
        generated = generator(z)
        on_real, on_generated = discriminator(real), discriminator(generated.detach())
    loss = F.softplus(-on_real).mean() + F.softplus(on_generated).mean()
    loss.backward()
    discriminator_optimizer.step()
    discriminator_optimizer.zero_grad()
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
        on_generated = discriminator(generated)
    generator_loss = F.softplus(-on_generated).mean()
    generator_loss.backward()
    generator_optimizer.step()
    generator_optimizer.zero_grad()
    discriminator_optimizer.zero_grad()  # the generator's loss also adds gradients to the discriminator
    return loss.detach(), generator_loss.detach()


@torch.inference_mode()
def generate(generator: Generator, z: Tensor) -> Tensor:
    """(N, Z) -> (N, P) samples in [0, 1] on the CPU; batch normalisation uses its running statistics"""
    was_training = generator.training
    generator.eval()
    samples = torch.cat([generator(part).float().add(1).div(2).flatten(1).cpu() for part in z.split(1_000)])
    generator.train(was_training)
    return samples


def pixel_variance(images: Tensor) -> float:
    """(N, P) -> variance of a pixel over the images, averaged over the pixels; 0 if all images are equal"""
    return float(images.var(0, correction=0).mean())


def monitor(classifier: nn.Sequential, samples: Tensor, real: Tensor) -> dict[str, float]:
    """Return the covered classes, variance relative to (M, P) real images and Fréchet distance of (N, P) samples."""
    return {
        "classes": float(sample_quality.covered_classes(probabilities(classifier, samples))),
        "variety": pixel_variance(samples) / pixel_variance(real),
        "frechet_distance": sample_quality.frechet_distance(features(classifier, real), features(classifier, samples)),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train both networks; return the metrics of samples and of the references."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "the gan program trains in one process", distributed.world_size())
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
        parts = {
            "pair": pair,
            "generator_optimizer": optimizers[0],
            "discriminator_optimizer": optimizers[1],
            "film": film,
        }
        for epoch in run.epochs(epochs, len(batches), **parts):
            generator_loss = torch.zeros((), device=run.device)
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                learning_rate = one_cycle(step, steps, config.learning_rate, warm_up=0.1)
                for optimizer in optimizers:
                    set_learning_rate(optimizer, learning_rate)
                if len(images) < 2:  # batch normalisation needs two images
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
    """Draw samples, the share of each predicted class, and curves of losses and metrics; write the animation."""
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
    epochs, images = film.first_rows()
    run.figure("training", plots.mosaic(images, columns=ROW, row_names=epochs, title="samples from the same ten z"))
    with run.writing("training.gif") as path:
        film.write(path)


def restore(folder: Path) -> tuple[Generator, Config]:
    """Load a trained generator and its Config from a run folder."""
    config = read_config(folder, Config)
    pair = Pair(config)
    load_weights(pair, folder)
    return pair.generator.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step of both networks on a batch of random images, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    pair = Pair(config).to(device)
    optimizers = (
        make_optimizer(pair.generator, config.learning_rate),
        make_optimizer(pair.discriminator, config.learning_rate),
    )
    bf16 = config.run.precision == "bf16"
    return Workload(lambda: train_step(pair, optimizers, scaled(images), bf16=bf16), items=config.batch_size)
