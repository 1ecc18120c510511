"""VAEs with 2, 5, 8 and 20 latent units, compared with plain autoencoders of the same shape.

    python -m ch08_vae.train latent_sweep
    python -m ch08_vae.train latent_sweep --latent-sizes 2 20 --epochs 5

All networks are trained on the same batches, interleaved in one process. The plain autoencoder is the same network
without noise and without KL term. Its samples are decoded from a Gaussian with the mean and standard deviation of the
codes of each unit; those of the VAE are decoded from the prior.

Dimensions: B batch, N images, P pixels (784), Z latent units.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ch08_vae.autoencoding.networks import VAE, initialise_output_bias, log_bernoulli
from ch08_vae.autoencoding.pictures import tiles
from ch08_vae.autoencoding.vae import kl_weight, make_optimizer, train_step
from ch08_vae.evaluation.classifier import features, fit_classifier
from ch08_vae.evaluation.likelihood import active_units, chunks, decoded, measure, posterior
from ch08_vae.evaluation.sample_quality import frechet_distance, halves
from ch08_vae.preprocessing import binarised, fixed
from common import distributed
from common.config import RunOptions, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.progress import print_table
from common.run import Run
from common.schedule import one_cycle, set_learning_rate

SHOWN = 8
"""Number of reconstructions and of samples of each network in the figure."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    latent_sizes: tuple[int, ...] = (2, 5, 8, 20)
    """Numbers of latent units to compare."""
    hidden: tuple[int, ...] = (256, 128)
    """Number of hidden units of each encoder layer; the decoders have them in reverse order."""
    epochs: int | None = None
    """Number of epochs. Default: 10, or more on small data sets, for about 1,000 steps."""
    batch_size: int = 256
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    warm_up: float = 0.3
    """Fraction of training during which the weight of the KL term increases linearly from 0 to 1."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "latent_sizes", "hidden", "epochs", "batch_size", "learning_rate")
        require(len(self.latent_sizes) > 0, "--latent-sizes needs at least one number", "none")
        require(len(set(self.latent_sizes)) == len(self.latent_sizes), "--latent-sizes must differ", self.latent_sizes)
        require(len(self.hidden) > 0, "--hidden needs at least one layer", "none")
        require(0 <= self.warm_up <= 1, "--warm-up must be between 0 and 1", self.warm_up)


def autoencoder_step(model: VAE, optimizer: torch.optim.Optimizer, x: Tensor, *, bf16: bool = False) -> Tensor:
    """Take one gradient step of a plain autoencoder: the code is mu, without noise and KL term."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        code, _ = model.encode(x)
        logits = model.decode(code)
    loss = -log_bernoulli(logits, x).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def reconstruction(model: VAE, x: Tensor) -> float:
    """Return the mean log p(x | code) of (N, P) images under a plain autoencoder, in nats."""
    total = sum(
        float(log_bernoulli(model.decode(model.encode(part)[0]), part).double().sum()) for part, _ in chunks(x, None)
    )
    return total / len(x)


def code_samples(code: Tensor, count: int) -> Tensor:
    """(N, Z) codes -> (count, Z) samples of the Gaussian with the mean and standard deviation of each unit"""
    return code.mean(0) + code.std(0, correction=0) * torch.randn(count, code.shape[1], device=code.device)


def evaluate(run: Run, data: ImageSet, variational: dict[int, VAE], plain: dict[int, VAE]) -> dict[str, float]:
    """Return the test metrics of all networks; print the table and draw the figures."""
    classifier = fit_classifier(data, run.device)
    real, held_out = (features(classifier, images) for images in halves(data.test))
    metrics = {"real_frechet_distance": frechet_distance(real, held_out)}
    test, valid = (fixed(split.pixels, "dynamic", run.device) for split in (data.test, data.valid))
    shown = min(SHOWN, len(test))
    rows, images = [], [test[:shown].cpu(), torch.ones(shown, 784)]
    for size, model in variational.items():
        mu, _ = posterior(model, test)
        code, _ = posterior(plain[size], test)
        samples = decoded(model, torch.randn(len(real), size, device=run.device))
        valid_code, _ = posterior(plain[size], valid)
        plain_samples = decoded(plain[size], code_samples(valid_code, len(real)))
        of_size = {
            **measure(model, test),
            "active_units": float(active_units(mu)),
            "frechet_distance": frechet_distance(real, features(classifier, samples)),
            "plain_reconstruction": reconstruction(plain[size], test),
            "plain_frechet_distance": frechet_distance(real, features(classifier, plain_samples)),
        }
        metrics |= {f"latent_{size}_{name}": value for name, value in of_size.items()}
        rows.append([f"latent {size}", *of_size.values()])
        images += [decoded(model, mu[:shown]), samples[:shown]]
        images += [decoded(plain[size], code[:shown]), plain_samples[:shown]]
    headings = ["ELBO", "reconstruction", "KL", "active", "Fréchet", "plain: reconstruction", "Fréchet"]
    print_table(["", *headings], rows, title="nats per image; Fréchet distance of samples from real test images")
    report(run, torch.cat(images), 2 * shown, [*variational])
    return metrics


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train every network on the same batches; return the test metrics of each size."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "latent_sweep trains in one process", distributed.world_size())
        batches = Batches(data.train.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(10, 1_000 // len(batches))
        steps = epochs * len(batches)
        variational = {size: VAE(size, hidden=config.hidden).to(run.device) for size in config.latent_sizes}
        plain = {size: VAE(size, hidden=config.hidden).to(run.device) for size in config.latent_sizes}
        trained, parts = [], {}
        for kind, models in (("vae", variational), ("autoencoder", plain)):
            for size, model in models.items():
                initialise_output_bias(model, data.train.pixels)
                optimizer = make_optimizer(model, config.learning_rate)
                trained.append((kind, model, optimizer))
                parts |= {f"{kind}_{size}": model, f"{kind}_{size}_optimizer": optimizer}
        valid = fixed(data.valid.pixels, "dynamic", run.device)
        for epoch in run.epochs(epochs, len(batches), **parts):
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                x, beta = binarised(images, "dynamic"), kl_weight(step, steps, config.warm_up)
                losses = []
                for kind, model, optimizer in trained:
                    set_learning_rate(optimizer, one_cycle(step, steps, config.learning_rate, warm_up=0.1))
                    if kind == "vae":
                        losses.append(train_step(model, optimizer, x, beta=beta, bf16=run.bf16))
                    else:
                        losses.append(autoencoder_step(model, optimizer, x, bf16=run.bf16))
                run.step(torch.stack(losses).mean(), images=len(images))
            run.log(valid={f"elbo_{size}": measure(model, valid)["elbo"] for size, model in variational.items()})
        return run.finish(run=evaluate(run, data, variational, plain))


def report(run: Run, images: Tensor, columns: int, sizes: list[int]) -> None:
    """Draw reconstructions (left half) and samples (right half) of every network, and the curves of the ELBO."""
    from common.drawing import plots

    names = ["images", *(f"{kind}, {size}" for size in sizes for kind in ("VAE", "plain"))]
    halves = [""] * columns
    halves[columns // 4], halves[3 * columns // 4] = "reconstructions", "samples"
    figure = plots.mosaic(tiles(images), columns=columns, row_names=names, column_names=halves, size=0.5)
    run.figure("sweep", figure)
    run.figure("curves", plots.curves(run.history, {"ELBO, nats per image": [f"valid_elbo_{size}" for size in sizes]}))
