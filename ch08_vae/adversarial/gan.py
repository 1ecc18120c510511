"""Generative adversarial network (GAN): a generator and a discriminator, trained against each other.

    python -m ch08_vae.train gan
    python -m ch08_vae.train gan --data digits --epochs 100
    python -m ch08_vae.train gan --network dcgan
    python -m ch08_vae.train gan --spectral-norm
    python -m ch08_vae.train gan --loss wasserstein --critic-steps 5 --gradient-penalty 10

The losses are in losses.py, the networks in networks.py, the training step in steps.py. Batch normalisation, leaky
ReLUs and Adam with beta1 = 0.5 are those of the DCGAN (Radford, Metz & Chintala 2016).

A GAN has no likelihood, and its losses do not measure the quality of samples. After each epoch, 1,000 samples are
therefore measured: the number of classes and the variety, which both decrease in a mode collapse, and the Fréchet
distance, precision and recall relative to validation images.

Dimensions: B batch, N and M images, P pixels (784), Z latent units.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import count as count_from
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ch08_vae.adversarial.losses import Loss
from ch08_vae.adversarial.networks import Generator, Network, Pair, image_pair
from ch08_vae.adversarial.steps import Optimizers, make_optimizer, train_step
from ch08_vae.evaluation import sample_quality
from ch08_vae.evaluation.classifier import features, fit_classifier, probabilities
from ch08_vae.film import ROW, Film
from ch08_vae.preprocessing import flat
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
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
    network: Network = "small"
    """Networks: small, with two convolutions each, or dcgan, with four."""
    latent_size: int = 64
    """Number of latent units Z: size of the generator's input, a standard normal vector."""
    width: int = 32
    """Number of channels at 14x14 pixels; it doubles with each halving of the size."""
    loss: Loss = "non-saturating"
    """Losses of both networks: the non-saturating GAN, or the Wasserstein GAN, whose discriminator is called critic."""
    critic_steps: int = default_by("loss", **{"non-saturating": 1, "wasserstein": 5})
    """Steps of the discriminator for each step of the generator, each on another batch. Default: 1, or 5 for
    wasserstein."""
    gradient_penalty: float = default_by("loss", **{"non-saturating": 0.0, "wasserstein": 10.0})
    """Weight of the gradient penalty, for --loss wasserstein; 0 turns it off. Default: 10 for wasserstein."""
    spectral_norm: bool = False
    """Spectral normalisation of the discriminator, instead of its batch normalisation."""
    discriminator_norm: Literal["batch", "none"] = default_by(
        "loss", **{"non-saturating": "batch", "wasserstein": "none"}
    )
    """Normalisation of the discriminator's hidden layers. Default: batch, or none for wasserstein."""
    epochs: int | None = None
    """Number of epochs. Default: 5, or more for about 1,000 steps of the generator."""
    batch_size: int = 128
    """Batch size."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam for both networks (one-cycle schedule)."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "latent_size", "width", "epochs", "learning_rate", "critic_steps")
        require(self.batch_size >= 2, "--batch-size must be at least 2, for batch normalisation", self.batch_size)
        penalty = self.gradient_penalty
        require(0 <= penalty < float("inf"), "--gradient-penalty must be a number of at least 0", penalty)
        wasserstein = self.loss == "wasserstein"
        require(penalty == 0 or wasserstein, "--gradient-penalty needs --loss wasserstein", self.loss)
        coupled = penalty > 0 and self.discriminator_norm == "batch" and not self.spectral_norm
        rule = "--discriminator-norm must be none with a gradient penalty, which is defined for single images"
        require(not coupled, rule, self.discriminator_norm)


def make_pair(config: Config) -> Pair:
    """Build both networks with their initial weights."""
    batch_norm = config.discriminator_norm == "batch"
    return image_pair(
        config.network,
        config.latent_size,
        config.width,
        batch_norm=batch_norm,
        spectral_norm=config.spectral_norm,
    )


def make_optimizers(pair: Pair, config: Config) -> Optimizers:
    """Create the optimizers of generator and discriminator."""
    rate = config.learning_rate
    return make_optimizer(pair.generator, rate), make_optimizer(pair.discriminator, rate)


def scaled(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> floats in [-1, 1], the range of the generator"""
    return images.float().div_(127.5).sub_(1)


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
    """Measure (N, P) samples relative to (M, P) real images.

    Precision and recall depend on the number of images, so they use equally many real ones.
    """
    of_real, of_samples = features(classifier, real), features(classifier, samples)
    precision, recall = sample_quality.precision_and_recall(of_real[: len(samples)], of_samples)
    return {
        "classes": float(sample_quality.covered_classes(probabilities(classifier, samples))),
        "variety": pixel_variance(samples) / pixel_variance(real),
        "frechet_distance": sample_quality.frechet_distance(of_real, of_samples),
        "precision": precision,
        "recall": recall,
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train both networks; return the metrics of samples and of the references."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "the gan program trains in one process", distributed.world_size())
        require(len(data.train) >= 2, "--limit must leave at least 2 images", len(data.train))
        batches = Batches(data.train.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(5, 1_000 * config.critic_steps // len(batches))
        steps = epochs * len(batches)
        classifier, real = fit_classifier(data, run.device), flat(data.valid.pixels)
        pair = make_pair(config).to(run.device)
        optimizers = make_optimizers(pair, config)
        film, z_of_film = Film(epochs), torch.randn(5 * ROW, config.latent_size, device=run.device)
        parts = {
            "pair": pair,
            "generator_optimizer": optimizers[0],
            "discriminator_optimizer": optimizers[1],
            "film": film,
        }
        for epoch in run.epochs(epochs, len(batches), **parts):
            generator_losses = []
            before = (epoch - 1) * len(batches)
            for number, (images,) in enumerate(batches, start=1):
                for optimizer in optimizers:
                    rate = one_cycle(before + number - 1, steps, config.learning_rate, warm_up=0.1)
                    set_learning_rate(optimizer, rate)
                if len(images) < 2:  # batch normalisation needs two images
                    images = images.repeat(2, 1, 1, 1)
                loss, generator_loss = train_step(
                    pair,
                    optimizers,
                    scaled(images),
                    loss=config.loss,
                    gradient_penalty=config.gradient_penalty,
                    train_generator=number % config.critic_steps == 0 or number == len(batches),
                    bf16=run.bf16,
                )
                if generator_loss is not None:
                    generator_losses.append(generator_loss)
                run.step(loss, images=len(images))
            film.take(epoch, partial(generate, pair.generator, z_of_film))
            samples = generate(pair.generator, torch.randn(MONITORED, config.latent_size, device=run.device))
            measures = monitor(classifier, samples, real)
            run.log(valid=measures | {"generator_loss": float(torch.stack(generator_losses).mean())})
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
        "precision and recall": ["valid_precision", "valid_recall"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    epochs, images = film.first_rows()
    run.figure("training", plots.mosaic(images, columns=ROW, row_names=epochs, title="samples from the same ten z"))
    with run.writing("training.gif") as path:
        film.write(path)


def restore(folder: Path) -> tuple[Generator, Config]:
    """Load a trained generator and its Config from a run folder."""
    config = read_config(folder, Config)
    pair = make_pair(config)
    load_weights(pair, folder)
    return pair.generator.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step of both networks on a batch of random images, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    pair = make_pair(config).to(device)
    optimizers = make_optimizers(pair, config)
    settings: dict[str, Any] = {"loss": config.loss, "gradient_penalty": config.gradient_penalty}
    count, bf16 = count_from(1), config.run.precision == "bf16"

    def step() -> None:
        trained = next(count) % config.critic_steps == 0
        train_step(pair, optimizers, scaled(images), **settings, train_generator=trained, bf16=bf16)

    return Workload(step, items=config.batch_size)
