"""The restricted Boltzmann machine: 500 binary units that learn, without labels, how probable an image is.

    python -m ch03_autoencoder_rbm.train rbm
    python -m ch03_autoencoder_rbm.train rbm --algorithm cd --gibbs-steps 25    # chains that start at the data
    python -m ch03_autoencoder_rbm.train rbm --hidden-size 20                   # small enough to be exact

Its likelihood is estimated by annealed importance sampling, and belongs to a way of making pixels binary: compare only
figures of the same --binarise.

Dimensions: B batch, N images, P pixels (784), H hidden units, C chains.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ch03_autoencoder_rbm.boltzmann import logistic
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
from ch03_autoencoder_rbm.preprocessing import binary, brightness, fixed_binary
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.run import Run, load_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the restricted Boltzmann machine."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Which images; auto takes MNIST where it is on disk or can be downloaded, else the embedded digits."""
    binarise: Literal["stochastic", "threshold"] = "stochastic"
    """stochastic: a pixel is on with its brightness as probability, drawn anew each epoch; threshold: above a half."""
    hidden_size: int = 500
    """Hidden units."""
    epochs: int | None = None
    """Passes over the training split; by default 60, and on a small set up to 200."""
    batch_size: int = 100
    """Images a step."""
    algorithm: Literal["pcd", "cd"] = "pcd"
    """pcd: chains that go on from step to step; cd: chains that start at the batch in every step."""
    gibbs_steps: int = 1
    """Gibbs steps of the chains in a training step: the k of CD-k."""
    chains: int = 100
    """Persistent chains; cd has as many as the batch has images."""
    learning_rate: float = 0.1
    """First step size; it falls to zero along a straight line."""
    momentum: float = 0.5
    """Share of the last step that the next one keeps."""
    weight_decay: float = 0.0
    """Pull of each weight towards zero, as a share of it, times the step size."""
    sparsity_target: float | None = None
    """Activity towards which each hidden unit is pushed, as 0.1; None lets them be."""
    sparsity_cost: float = 0.01
    """How hard they are pushed."""
    centre: bool = True
    """Measure units from their mean activities, for a better conditioned gradient; --no-centre measures from zero."""
    temperatures: int | None = None
    """Steps of the annealed importance sampling; by default 3,000, and 500 on an embedded set."""
    annealed_chains: int = 500
    """Chains of the annealed importance sampling."""
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
    """Make a machine that starts with how often each of (N, P) pixels is on, and no more (Hinton 2010, section 8)."""
    rbm = RBM(pixels.shape[1], hidden_size)
    rbm.visible_bias.copy_(base_rates(pixels))
    return rbm


def make_learner(rbm: RBM, config: Config, *, bf16: bool) -> ContrastiveDivergence:
    """Make the rule by which the machine learns."""
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


def monitor(rbm: RBM, known: Tensor, valid: Tensor) -> dict[str, float]:
    """Measure what costs little: pseudo-likelihood, and how much more probable known images are than unseen ones.

    Log Z is the same for both, so the gap of the free energies is that of the log-likelihoods; it grows with
    overfitting (Hinton 2010, section 6).
    """
    here = mean_free_energy(rbm, valid)
    return {
        "pseudo_likelihood": pseudo_likelihood(rbm, valid),
        "free_energy": here,
        "free_energy_gap": here - mean_free_energy(rbm, known),
    }


def evaluate(run: Run, data: ImageSet, rbm: RBM) -> dict[str, dict[str, float]]:
    """Measure likelihood on the test split (and on as many known images), and classes read off the hidden units."""
    config = run.config
    temperatures = config.temperatures or (500 if data.card.embedded else 3_000)
    base = base_rates(brightness(data.train.pixels)).to(run.device)
    log_z = annealed_log_partition(rbm, base, temperatures, config.annealed_chains)
    test = fixed_binary(data.test.pixels, config.binarise, run.device)
    known = fixed_binary(data.train.pixels[: len(test)], config.binarise, run.device)
    measures = {"log_likelihood": log_likelihood(rbm, test, log_z.value)}
    if config.hidden_size <= ENUMERABLE:
        measures["exact_log_likelihood"] = log_likelihood(rbm, test, exact_log_partition(rbm))
    measures["pseudo_likelihood"] = pseudo_likelihood(rbm, test)
    splits = [data.train, data.valid, data.test]
    pixels = [brightness(split.pixels).to(run.device) for split in splits]
    for name, (train, valid, unseen) in {
        "accuracy": [rbm.hidden_probability(part) for part in pixels],
        "pixel_accuracy": pixels,
    }.items():
        classifier = logistic.fit_best(train, data.train.labels, valid, data.valid.labels)
        measures[name] = classifier.accuracy(unseen, data.test.labels)
    spread = {"annealing_error": log_z.error, "effective_chains": log_z.effective_chains}
    return {"run": spread, "train": {"log_likelihood": log_likelihood(rbm, known, log_z.value)}, "test": measures}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Fit the machine and return its test metrics."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "the rbm learns in one process", distributed.world_size())
        batches = Batches(data.train.pixels, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(60, min(200, 2_000 // len(batches)))
        rbm = make_rbm(brightness(data.train.pixels), config.hidden_size).to(run.device)
        learner = make_learner(rbm, config, bf16=run.bf16)
        valid = fixed_binary(data.valid.pixels, config.binarise, run.device)
        known = fixed_binary(data.train.pixels[: len(valid)], config.binarise, run.device)
        for epoch in run.epochs(epochs, len(batches), rbm=rbm, learner=learner):
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                size = config.learning_rate * (1 - step / (epochs * len(batches)))
                distance = learner.step(rbm, binary(images, config.binarise), size)
                run.step(distance, images=len(images))
            run.log(valid=monitor(rbm, known, valid))
        run.save(rbm)
        report(run, data, rbm)
        return run.finish(**evaluate(run, data, rbm))


def report(run: Run, data: ImageSet, rbm: RBM) -> None:
    """Draw what a person looks at: filters, reconstructions, samples through the chain, the curves."""
    from common.drawing import plots

    strongest = rbm.weight.square().sum(0).topk(min(100, rbm.weight.shape[1])).indices
    run.figure("filters", plots.image_grid(as_filters(rbm.weight[:, strongest]), columns=10, size=0.6))
    v = fixed_binary(data.test.pixels[:10], run.config.binarise, run.device)
    again = rbm.visible_probability(rbm.hidden_probability(v))
    pairs = torch.cat([brightness(data.test.pixels[:10]), v.cpu(), again.cpu()]).view(-1, 1, 28, 28)
    run.figure("reconstructions", plots.image_grid(pairs, columns=len(v), row_names=["image", "binary", "again"]))
    run.figure("samples", draw_chain([rbm], v))
    panels = {
        "log pseudo-likelihood, nats": ["valid_pseudo_likelihood"],
        "free energy: unseen less known, nats": ["valid_free_energy_gap"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def as_filters(weights: Tensor) -> Tensor:
    """(P, N) weights -> (N, 1, 28, 28) pictures in [0, 1]: grey is zero, and each filter's strongest weight is full"""
    strongest = weights.abs().amax(0).clamp(min=1e-12)
    return (0.5 + (weights / strongest).T / 2).view(-1, 1, 28, 28)


def draw_chain(stack: list[RBM], v: Tensor, marks: tuple[int, ...] = (1, 10, 100, 1_000)) -> "Figure":
    """Draw p(v | h) along Gibbs chains of the topmost machine that start at (C, P) images, after so many steps."""
    from common.drawing import plots

    *below, top = stack
    rows, q, done = [v], top.hidden_probability(upwards(below, v)), 0
    for mark in marks:
        _, q = gibbs(top, q, mark - done)
        rows.append(downwards(stack, sample(q)))
        done = mark
    names = ["start", *(f"{mark:,} step{'s' * (mark > 1)}" for mark in marks)]
    return plots.image_grid(torch.cat(rows).view(-1, 1, 28, 28), columns=len(v), row_names=names)


def restore(folder: Path) -> tuple[RBM, Config]:
    """Rebuild the machine that a run saved."""
    config = read_config(folder, Config)
    rbm = RBM(784, config.hidden_size)
    load_weights(rbm, folder)
    return rbm, config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of noise, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    rbm = make_rbm(brightness(images), config.hidden_size).to(device)
    learner = make_learner(rbm, config, bf16=config.run.precision == "bf16")
    size = config.learning_rate
    return Workload(
        lambda: learner.step(rbm, binary(images, config.binarise), size),
        items=config.batch_size,
    )
