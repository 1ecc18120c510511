"""The variational autoencoder (VAE): an encoder and a decoder trained to maximise a lower bound of log p(x).

    python -m ch08_vae.train vae
    python -m ch08_vae.train vae --latent-size 2                    # two latent units: the latent plane can be drawn
    python -m ch08_vae.train vae --conditional                      # conditioned on the class: generates a given digit
    python -m ch08_vae.train vae --kl book                          # the book's KL term instead of the exact one
    python -m ch08_vae.train vae --binarisation none                # grey levels, as in pytorch/examples

The bound (ELBO) is the expected log-likelihood of the reconstruction minus the KL divergence of the posterior from the
prior. Values are comparable only between runs with the same --binarisation.

Dimensions: B batch, N images, P pixels (784), Z latent units, K classes (10).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.autoencoding import pictures
from ch08_vae.autoencoding.book import book_kl
from ch08_vae.autoencoding.networks import VAE, initialise_output_bias, kl_divergence, log_bernoulli
from ch08_vae.evaluation import sample_quality
from ch08_vae.evaluation.classifier import accuracy, fit_classifier
from ch08_vae.evaluation.likelihood import GROUP, active_units, decoded, likelihood, measure, posterior
from ch08_vae.film import Film
from ch08_vae.preprocessing import CLASSES, Binarisation, binarised, fixed
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the variational autoencoder."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    latent_size: int = 20
    """Number of latent units Z."""
    hidden: tuple[int, ...] = (256, 128)
    """Number of hidden units of each encoder layer; the decoder has them in reverse order. Not used by conv."""
    architecture: Literal["mlp", "conv"] = "mlp"
    """Architecture: mlp (linear layers, as in the book) or conv (two convolutions and two transposed convolutions)."""
    conditional: bool = False
    """Condition encoder and decoder on the class, so that digits of a given class can be generated."""
    beta: float = 1.0
    """Weight of the KL term; 1 gives the ELBO, larger values a beta-VAE with less information in z."""
    warm_up: float = 0.3
    """Fraction of training during which the weight of the KL term increases linearly from 0 to beta."""
    kl: Literal["exact", "book"] = "exact"
    """KL term of the training loss: exact, or the book's, with log sigma in place of log sigma^2."""
    binarisation: Binarisation = "dynamic"
    """Pixels: dynamic (binary, sampled in every epoch with the grey levels as probabilities) or none (grey levels)."""
    epochs: int | None = None
    """Number of epochs. Default: 40, or more on small data sets, for about 2,000 steps."""
    batch_size: int = 256
    """Batch size, over all processes."""
    learning_rate: float = 5e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    importance_samples: int = 5_000
    """Number k of importance samples per image for the tightest bound L_k of log p(x)."""
    likelihood_images: int = default_by("architecture", mlp=1_000, conv=200)
    """Number of test images for the tightest bound. Default: 1,000 (mlp) or 200 (conv)."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "latent_size", "hidden", "epochs", "batch_size", "learning_rate")
        require(self.likelihood_images >= 2, "--likelihood-images must be at least 2", self.likelihood_images)
        require(len(self.hidden) > 0, "--hidden needs at least one layer", "none")
        require(0 <= self.beta < float("inf"), "--beta must not be negative", self.beta)
        require(0 <= self.warm_up <= 1, "--warm-up must be between 0 and 1", self.warm_up)
        samples = self.importance_samples
        rule = f"--importance-samples must be a multiple of {GROUP} above 0"
        require(samples > 0 and samples % GROUP == 0, rule, samples)


def make_model(config: Config) -> VAE:
    """Build the network that the Config names."""
    return VAE(
        config.latent_size,
        hidden=config.hidden,
        architecture=config.architecture,
        conditional=config.conditional,
    )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    classes: Tensor | None = None,
    *,
    beta: float = 1.0,
    kl: Callable[[Tensor, Tensor], Tensor] = kl_divergence,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss in nats per image, on the device."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        logits, mu, logvar = model(x, classes)
    # -E_q[log p(x | z)] + beta KL(q(z | x) || p(z)), with one sample of q for the expectation; -ELBO for beta = 1
    loss = (beta * kl(mu, logvar).sum(1) - log_bernoulli(logits, x)).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def kl_weight(step: int, steps: int, share: float) -> float:
    """Return the weight of the KL term at a step: linear from 0 to 1, then 1 (Sønderby et al. 2016, section 2.3).

    The weight reaches 1 after the fraction `share` of all steps. Latent units that carry little information at the
    start of training can then become useful before the KL term penalises them fully.
    """
    return min(1.0, (step + 1) / (share * steps)) if share > 0 else 1.0


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Create a fused Adam optimizer (Kingma & Ba 2015)."""
    return torch.optim.Adam(model.parameters(), learning_rate, fused=True)


def one_hot(labels: Tensor, config: Config) -> Tensor | None:
    """(B,) labels -> (B, K) one-hot classes for a conditional model, otherwise None"""
    return F.one_hot(labels, CLASSES).float() if config.conditional else None


def rename_grey(metrics: dict[str, float], config: Config) -> dict[str, float]:
    """Negate and rename metrics of grey levels: they are losses, as in pytorch/examples, not log-likelihoods."""
    if config.binarisation == "dynamic":
        return metrics
    return {
        "grey_loss": -metrics["elbo"],
        "grey_reconstruction": -metrics["reconstruction"],
        "kl": metrics["kl"],
    }


def evaluate(run: Run, data: ImageSet, model: VAE, film: Film) -> dict[str, dict[str, float]]:
    """Return the metrics of the test set, of samples and of the references; draw the figures."""
    config: Config = run.config
    test = fixed(data.test.pixels, config.binarisation, run.device)
    condition = one_hot(data.test.labels.to(run.device), config)
    mu, logvar = posterior(model, test, condition)
    metrics = rename_grey(measure(model, test, condition), config) | {"active_units": float(active_units(mu))}
    if config.binarisation == "dynamic":
        k, images = config.importance_samples, config.likelihood_images
        bounds = likelihood(model, test, condition, samples=k, images=images)
        metrics |= vars(bounds) | {"reconstruction": bounds.elbo + metrics["kl"]}
    classifier = fit_classifier(data, run.device)
    count = sample_quality.sample_size(data)
    labels = torch.arange(count, device=run.device) % CLASSES
    z = torch.randn(count, config.latent_size, device=run.device)
    samples = decoded(model, z, one_hot(labels, config))
    quality = sample_quality.measure_samples(classifier, samples, data)
    if config.conditional:
        quality["accuracy"] = accuracy(classifier, samples, labels)
    pictures.report(run, data, model, film, test, condition, (mu, logvar))
    return {"test": metrics, "sample": quality, **sample_quality.measure_references(classifier, data)}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the autoencoder and return its test metrics."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        epochs = config.epochs or max(40, 2_000 // len(batches))
        model = make_model(config).to(run.device)
        initialise_output_bias(model, data.train.pixels)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config.learning_rate)
        steps = epochs * len(batches)
        valid = fixed(data.valid.pixels, config.binarisation, run.device)
        condition = one_hot(data.valid.labels.to(run.device), config)
        film = Film(epochs)
        kl = book_kl if config.kl == "book" else kl_divergence
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer, film=film):
            for step, (images, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                x, classes = binarised(images, config.binarisation), one_hot(labels, config)
                beta = config.beta * kl_weight(step, steps, config.warm_up)
                set_learning_rate(optimizer, one_cycle(step, steps, config.learning_rate, warm_up=0.1))
                loss = train_step(parallel, optimizer, x, classes, beta=beta, kl=kl, bf16=run.bf16)
                run.step(loss, images=len(images))
            film.take(epoch, partial(pictures.film_page, model, valid, condition))
            run.log(valid=rename_grey(measure(model, valid, condition), config))
        run.save(model)
        metrics = evaluate(run, data, model, film) if run.is_main else {}
        return run.finish(**metrics)


def restore(folder: Path) -> tuple[VAE, Config]:
    """Load a trained autoencoder and its Config from a run folder."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on one batch of random images, including binarisation, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    classes = one_hot(torch.randint(CLASSES, (config.batch_size,), device=device), config)
    model = make_model(config).to(device)
    optimizer = make_optimizer(model, config.learning_rate)
    kl = book_kl if config.kl == "book" else kl_divergence
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        x = binarised(images, config.binarisation)
        return train_step(model, optimizer, x, classes, beta=config.beta, kl=kl, bf16=bf16)

    return Workload(step, items=config.batch_size)
