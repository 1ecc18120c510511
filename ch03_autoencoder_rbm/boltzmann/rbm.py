"""Restricted Boltzmann machine (RBM): a probability model of binary images, trained without labels.

    python -m ch03_autoencoder_rbm.train rbm
    python -m ch03_autoencoder_rbm.train rbm --algorithm cd --gibbs-steps 25    # CD-25 instead of persistent chains
    python -m ch03_autoencoder_rbm.train rbm --hidden-size 20                   # also computes the exact likelihood

The test log-likelihood is estimated by annealed importance sampling. Only results with the same --binarise are
comparable.

Dimensions: B batch, N images, P pixels (784), H hidden units, C chains.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ch03_autoencoder_rbm.boltzmann.gibbs import RBM, ContrastiveDivergence, downwards, gibbs, sample, upwards
from ch03_autoencoder_rbm.boltzmann.likelihood import (
    ENUMERABLE,
    annealed_log_partition,
    base_rates,
    exact_log_partition,
    log_likelihood,
    mean_free_energy,
    pseudo_likelihood,
)
from ch03_autoencoder_rbm.preprocessing import as_filters, binary, fixed_binary, intensities
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.run import Run, load_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBE_STRENGTHS = (0.1, 1.0, 10.0)
"""Inverse regularisation strengths C to try for the linear probe."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the restricted Boltzmann machine."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Image data set. auto: MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    binarise: Literal["stochastic", "threshold"] = "stochastic"
    """Binary pixels. stochastic: sampled in each epoch, with the grey level as probability; threshold: 1 above 0.5."""
    hidden_size: int = 500
    """Number of hidden units."""
    epochs: int | None = None
    """Passes over the training split; by default 60, up to 200 on a small set (2,000 steps)."""
    batch_size: int = 100
    """Images per step."""
    algorithm: Literal["pcd", "cd"] = "pcd"
    """pcd: persistent contrastive divergence; cd: contrastive divergence, with chains that start at the batch."""
    gibbs_steps: int = 1
    """Gibbs steps per training step, the k of CD-k."""
    chains: int = 100
    """Number of persistent chains of pcd; cd uses one chain per image of the batch."""
    learning_rate: float = 0.1
    """Initial learning rate; decays linearly to zero."""
    momentum: float = 0.5
    """Momentum coefficient."""
    weight_decay: float = 0.0
    """Weight decay (L2); multiplied by the learning rate."""
    sparsity_target: float | None = None
    """Target mean activation of each hidden unit, such as 0.1; by default no sparsity penalty."""
    sparsity_cost: float = 0.01
    """Coefficient of the sparsity penalty."""
    centre: bool = True
    """Use the centred gradient, which subtracts running means from all units. --no-centre uses the plain gradient."""
    temperatures: int | None = None
    """Number of intermediate distributions of annealed importance sampling; by default 3,000, 500 on embedded data."""
    annealed_chains: int = 500
    """Number of chains of annealed importance sampling."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(
            self, "hidden_size", "epochs", "batch_size", "gibbs_steps", "chains", "learning_rate", "temperatures"
        )
        require(0 <= self.momentum < 1, "--momentum must be at least 0 and below 1", self.momentum)
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        target = self.sparsity_target
        require(target is None or 0 < target < 1, "--sparsity-target must be between 0 and 1", target)
        require(0 <= self.sparsity_cost < float("inf"), "--sparsity-cost must not be negative", self.sparsity_cost)
        require(self.annealed_chains >= 2, "--annealed-chains must be at least 2", self.annealed_chains)


def make_rbm(pixels: Tensor, hidden_size: int) -> RBM:
    """Make an RBM whose visible biases reproduce the mean of (N, P) images (Hinton 2010, section 8)."""
    rbm = RBM(pixels.shape[1], hidden_size)
    rbm.visible_bias.copy_(base_rates(pixels))
    return rbm


def make_learner(rbm: RBM, config: Config, *, bf16: bool) -> ContrastiveDivergence:
    """Make the training algorithm with the settings of the Config."""
    return ContrastiveDivergence(
        rbm,
        chains=config.chains if config.algorithm == "pcd" else 0,
        steps=config.gibbs_steps,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        sparsity_target=config.sparsity_target,
        sparsity_cost=config.sparsity_cost,
        centre=config.centre,
        dtype=torch.bfloat16 if bf16 else torch.float32,
    )


def validate(rbm: RBM, train_sample: Tensor, valid: Tensor) -> dict[str, float]:
    """Compute the pseudo-likelihood of validation images and the gap of their free energy to that of training images.

    log Z cancels, so this gap is also the gap of the log-likelihoods. It grows if the RBM overfits (Hinton 2010,
    section 6).
    """
    free_energy = mean_free_energy(rbm, valid)
    return {
        "pseudo_likelihood": pseudo_likelihood(rbm, valid),
        "free_energy": free_energy,
        "free_energy_gap": free_energy - mean_free_energy(rbm, train_sample),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the RBM and return its test metrics."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "the rbm trains in one process", distributed.world_size())
        batches = Batches(data.train.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(60, min(200, 2_000 // len(batches)))
        rbm = make_rbm(intensities(data.train.pixels), config.hidden_size).to(run.device)
        learner = make_learner(rbm, config, bf16=run.bf16)
        valid = fixed_binary(data.valid.pixels, config.binarise, run.device)
        train_sample = fixed_binary(data.train.pixels[: len(valid)], config.binarise, run.device)
        for epoch in run.epochs(epochs, len(batches), rbm=rbm, learner=learner):
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                learning_rate = config.learning_rate * (1 - step / (epochs * len(batches)))
                mean_image_error = learner.step(rbm, binary(images, config.binarise), learning_rate)
                run.step(mean_image_error, images=len(images))
            run.log(valid=validate(rbm, train_sample, valid))
        run.save(rbm)
        report(run, data, rbm)
        return run.finish(**evaluate(run, data, rbm))


def evaluate(run: Run, data: ImageSet, rbm: RBM) -> dict[str, dict[str, float]]:
    """Estimate the log-likelihood of test and training images; evaluate linear probes on hidden units and on pixels."""
    config = run.config
    temperatures = config.temperatures or (500 if data.card.embedded else 3_000)
    base = base_rates(intensities(data.train.pixels)).to(run.device)
    log_z = annealed_log_partition(rbm, base, temperatures, config.annealed_chains)
    test = fixed_binary(data.test.pixels, config.binarise, run.device)
    train_sample = fixed_binary(data.train.pixels[: len(test)], config.binarise, run.device)
    metrics = {"log_likelihood": log_likelihood(rbm, test, log_z.value)}
    if config.hidden_size <= ENUMERABLE:
        metrics["exact_log_likelihood"] = log_likelihood(rbm, test, exact_log_partition(rbm))
    metrics["pseudo_likelihood"] = pseudo_likelihood(rbm, test)
    pixels = [intensities(split.pixels) for split in (data.train, data.valid, data.test)]
    hidden = [rbm.hidden_probability(part.to(run.device)).cpu() for part in pixels]
    metrics["accuracy"] = probe_accuracy(hidden, data)
    metrics["pixel_accuracy"] = probe_accuracy(pixels, data)
    return {
        "run": {"annealing_error": log_z.error, "effective_chains": log_z.effective_chains},
        "train": {"log_likelihood": log_likelihood(rbm, train_sample, log_z.value)},
        "test": metrics,
    }


def probe_accuracy(features: list[Tensor], data: ImageSet) -> float:
    """(N, D) features of training, validation and test images -> test accuracy of a linear probe (logistic regression)

    The inverse regularisation strength C is chosen by validation accuracy, with fits to 10,000 training images to save
    time. The probe with that C is then fitted to all training images.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    train, valid, test = features
    labels = data.train.labels
    if len(labels.unique()) == 1:  # LogisticRegression needs at least two classes
        return float((data.test.labels == labels[0]).float().mean())

    def fit(C: float, images: int) -> LogisticRegression:
        # With this tolerance the solver converges within 300 iterations on MNIST.
        return LogisticRegression(C=C, tol=3e-4, max_iter=2_000).fit(train[:images].numpy(), labels[:images].numpy())

    with threadpool_limits(torch.get_num_threads()):  # scikit-learn uses all cores otherwise
        C = max(PROBE_STRENGTHS, key=lambda C: fit(C, 10_000).score(valid.numpy(), data.valid.labels.numpy()))
        return float(fit(C, len(labels)).score(test.numpy(), data.test.labels.numpy()))


def report(run: Run, data: ImageSet, rbm: RBM) -> None:
    """Draw filters, reconstructions, samples along Gibbs chains, and learning curves."""
    from common.drawing import plots

    strongest = rbm.weight.square().sum(0).topk(min(100, rbm.weight.shape[1])).indices
    run.figure("filters", plots.image_grid(as_filters(rbm.weight[:, strongest]), columns=10, size=0.6))
    v = fixed_binary(data.test.pixels[:10], run.config.binarise, run.device)
    reconstruction = rbm.visible_probability(rbm.hidden_probability(v))
    rows = torch.cat([intensities(data.test.pixels[:10]), v.cpu(), reconstruction.cpu()]).view(-1, 1, 28, 28)
    names = ["image", "binary", "reconstruction"]
    run.figure("reconstructions", plots.image_grid(rows, columns=len(v), row_names=names))
    run.figure("samples", draw_chain([rbm], v))
    panels = {
        "log pseudo-likelihood, nats": ["valid_pseudo_likelihood"],
        "free energy: validation - training, nats": ["valid_free_energy_gap"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def draw_chain(stack: list[RBM], v: Tensor, steps: tuple[int, ...] = (1, 10, 100, 1_000)) -> "Figure":
    """Draw p(v | h) after the given numbers of Gibbs steps of the top RBM, in chains that start at (C, P) images."""
    from common.drawing import plots

    *below, top = stack
    rows, q, done = [v], top.hidden_probability(upwards(below, v)), 0
    for step in steps:
        _, q = gibbs(top, q, step - done)
        rows.append(downwards(stack, sample(q)))
        done = step
    names = ["start", *(f"{step:,} step{'s' * (step > 1)}" for step in steps)]
    return plots.image_grid(torch.cat(rows).view(-1, 1, 28, 28), columns=len(v), row_names=names)


def restore(folder: Path) -> tuple[RBM, Config]:
    """Load the RBM of a run folder."""
    config = read_config(folder, Config)
    rbm = RBM(784, config.hidden_size)
    load_weights(rbm, folder)
    return rbm, config


def workload(config: Config, device: torch.device) -> Workload:
    """Make the training step on a batch of random images for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    rbm = make_rbm(intensities(images), config.hidden_size).to(device)
    learner = make_learner(rbm, config, bf16=config.run.precision == "bf16")
    return Workload(
        lambda: learner.step(rbm, binary(images, config.binarise), config.learning_rate),
        items=config.batch_size,
    )
