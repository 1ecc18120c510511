"""Anomaly detection: a VAE, trained without one class, shall give that class a low likelihood.

    python -m ch08_vae.train anomalies
    python -m ch08_vae.train anomalies --data mnist --classes 1 7     # hold out only these classes

Each class is held out in turn. Scores, higher for anomalies: the negative ELBO, the negative importance-weighted bound,
the negative reconstruction term alone, and the likelihood ratio of independent pixels and the VAE (Ren et al. 2019).
Baselines: squared error of PCA, isolation forest, and the amount of ink.

Dimensions: B batch, N images, P pixels (784), K samples of the posterior.
"""

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from ch08_vae.autoencoding.networks import VAE, initialise_output_bias, kl_divergence, log_bernoulli, log_odds
from ch08_vae.autoencoding.vae import kl_weight, make_optimizer
from ch08_vae.autoencoding.vae import train_step as vae_step
from ch08_vae.evaluation.likelihood import ROWS, chunks, log_weights
from ch08_vae.preprocessing import binarised, fixed
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, require, require_positive
from common.data.anomalies.baselines import baseline_scores
from common.data.anomalies.held_out import anomalous, require_classes, without
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.progress import print_table
from common.run import Run
from common.schedule import one_cycle, set_learning_rate

SCORES = ("elbo", "bound", "reconstruction", "ratio")
"""Scores of the VAE; the others are baselines."""

VALID_SAMPLES = 1
"""Number of samples of the posterior for the scores of the validation images, after every epoch."""

Scores = dict[str, dict[int, Tensor]]
"""(N,) scores of the test images by method and held-out class"""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the detectors."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "digits"
    """Image data set; the embedded digits by default, since a network is trained for each class."""
    classes: tuple[int, ...] = tuple(range(10))
    """Classes to hold out in turn."""
    latent_size: int = 20
    """Number of latent units."""
    hidden: tuple[int, ...] = (256, 128)
    """Number of hidden units of each encoder layer; the decoder has them in reverse order."""
    epochs: int | None = None
    """Passes over the training split. Default: 2, more on a small set (200 steps)."""
    batch_size: int = 128
    """Images per step, including those of the class that is held out, which are left out."""
    learning_rate: float = 4e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    warm_up: float = 0.3
    """Fraction of training during which the weight of the KL term increases linearly from 0 to 1."""
    samples: int = 10
    """Number K of samples of the posterior for the scores of a test image."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "latent_size", "hidden", "epochs", "batch_size", "learning_rate", "samples")
        require(self.samples <= ROWS, f"--samples must be at most {ROWS}", self.samples)
        require(len(self.hidden) > 0, "--hidden needs at least one layer", "none")
        require(len(self.classes) > 0, "--classes needs at least one class", "none")
        require(len(set(self.classes)) == len(self.classes), "--classes must differ", self.classes)
        require(0 <= self.warm_up <= 1, "--warm-up must be between 0 and 1", self.warm_up)


@dataclass(frozen=True)
class Detector:
    """VAE that is trained on all classes but one."""

    held_out: int
    background: Tensor
    """(P,) logits of independent pixels: the log-odds of the mean of the training images"""
    model: VAE
    optimizer: torch.optim.Optimizer


def make_detector(train: Split, held_out: int, config: Config, device: torch.device) -> Detector:
    """Make the VAE; its first output is the mean of the training images."""
    model = VAE(config.latent_size, hidden=config.hidden).to(device)
    pixels = without(train, held_out).pixels
    initialise_output_bias(model, pixels)
    return Detector(held_out, log_odds(pixels).to(device), model, make_optimizer(model, config.learning_rate))


def train_step(detector: Detector, images: Tensor, labels: Tensor, *, beta: float = 1.0, bf16: bool = False) -> Tensor:
    """Take one gradient step on the images of a batch that are not held out; return the loss in nats per image."""
    normal = images[labels != detector.held_out]
    if len(normal) == 0:  # a small batch
        return torch.zeros((), device=images.device)
    return vae_step(detector.model, detector.optimizer, binarised(normal, "dynamic"), beta=beta, bf16=bf16)


def auroc(scores: Tensor, is_anomaly: Tensor) -> float:
    """(N,) scores, (N,) bool -> area under the ROC curve: P(s_a > s_n) + P(s_a = s_n) / 2

    s_a is the score of a random anomaly, s_n that of a random normal image (Mann & Whitney 1947). The number of normal
    scores below s_a is its place in their sorted list, from the left; from the right, equal ones are counted too.
    """
    normal, anomalies = scores[~is_anomaly].sort().values, scores[is_anomaly]
    below = torch.searchsorted(normal, anomalies)
    up_to = torch.searchsorted(normal, anomalies, right=True)
    return float((below + up_to).double().mean()) / (2 * len(normal))


@torch.inference_mode()
def score(detector: Detector, images: Tensor, samples: int) -> dict[str, Tensor]:
    """(N, 1, 28, 28) uint8 -> (N,) scores of each kind, on the CPU; higher is more anomalous

    With w from K samples of the posterior: elbo is -mean log w, bound is -log mean w, reconstruction is
    -E_q[log p(x | z)], which is the first without the KL divergence, and ratio is the second plus the log-likelihood of
    independent pixels.
    """
    model = detector.model
    elbos, bounds, divergences, backgrounds = [], [], [], []
    for x, _ in chunks(fixed(images, "dynamic", detector.background.device), None, ROWS // samples):
        log_w = log_weights(model, x, None, samples)  # (N, K)
        elbos.append(log_w.mean(1))
        bounds.append(log_w.logsumexp(1) - math.log(samples))
        divergences.append(kl_divergence(*model.encode(x)).sum(1))
        backgrounds.append(log_bernoulli(detector.background, x))
    elbo, bound, kl, background = (torch.cat(parts).cpu() for parts in (elbos, bounds, divergences, backgrounds))
    return {"elbo": -elbo, "bound": -bound, "reconstruction": -(elbo + kl), "ratio": background - bound}


def mean_auroc(detectors: list[Detector], split: Split) -> dict[str, float]:
    """Return the AUROC of each score with one sample per image, averaged over the held-out classes."""
    found = [(score(each, split.pixels, VALID_SAMPLES), anomalous(split, each.held_out)) for each in detectors]
    return {f"{name}_auroc": fmean(auroc(scores[name], truth) for scores, truth in found) for name in SCORES}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the VAE of every held-out class on the same batches; return the AUROC of all methods."""
    data = data or load_images(config.data, limit=config.run.limit)
    require_classes(data, config.classes)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "anomalies trains in one process", distributed.world_size())
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        epochs = config.epochs or max(2, 200 // len(batches))
        steps = epochs * len(batches)
        detectors = [make_detector(data.train, label, config, run.device) for label in config.classes]
        parts: dict[str, Any] = {f"model_{each.held_out}": each.model for each in detectors}
        parts |= {f"optimizer_{each.held_out}": each.optimizer for each in detectors}
        for epoch in run.epochs(epochs, len(batches), **parts):
            for step, (images, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                losses, beta = [], kl_weight(step, steps, config.warm_up)
                for each in detectors:
                    set_learning_rate(each.optimizer, one_cycle(step, steps, config.learning_rate, warm_up=0.1))
                    losses.append(train_step(each, images, labels, beta=beta, bf16=run.bf16))
                run.step(torch.stack(losses).mean(), images=len(images))
            run.log(valid=mean_auroc(detectors, data.valid))
        scores: Scores = {name: {} for name in SCORES}
        for each in detectors:
            for name, values in score(each, data.test.pixels, config.samples).items():
                scores[name][each.held_out] = values
        baselines, sizes = baseline_scores(data, config.classes, config.run.seed)
        return finish(run, data, scores | baselines, sizes)


def finish(run: Run, data: ImageSet, scores: Scores, sizes: dict[str, int]) -> dict[str, float]:
    """Print the AUROC of every method and held-out class, draw the figures, and return all metrics."""
    classes, names = run.config.classes, data.class_names
    table = {
        method: {label: auroc(values, anomalous(data.test, label)) for label, values in of_class.items()}
        for method, of_class in scores.items()
    }
    means = {method: fmean(of_class.values()) for method, of_class in table.items()}
    rows = [[names[label], *(of_class[label] for of_class in table.values())] for label in classes]
    print_table(["held out", *table], [*rows, ["mean", *means.values()]], title="AUROC on the test set")
    report(run, data, scores, table)
    metrics = {f"{label}_{method}_auroc": table[method][label] for label in classes for method in table}
    return run.finish(
        run={"pca_components": sizes["pca"], "forest_trees": sizes["forest"]},
        held_out=metrics,
        test={f"{method}_auroc": value for method, value in means.items()},
    )


def report(run: Run, data: ImageSet, scores: Scores, table: dict[str, dict[int, float]]) -> None:
    """Draw the AUROC of every class, the most and the least anomalous images, histograms of scores, and curves."""
    from common.drawing import anomaly_plots, plots

    test, names = data.test, data.class_names
    bars = {method: [*of_class.values()] for method, of_class in table.items()}
    run.figure("auroc", anomaly_plots.draw_auroc([names[label] for label in run.config.classes], bars))
    panels = {}
    for method in ("bound", "ratio"):
        of_class = table[method]
        for label in dict.fromkeys([min(of_class, key=of_class.__getitem__), max(of_class, key=of_class.__getitem__)]):
            truth, values = anomalous(test, label), scores[method][label]
            title = f"{method} without {names[label]}: AUROC {of_class[label]:.2f}"
            panels[title] = values[~truth], values[truth]
        figure = anomaly_plots.draw_extremes(test.pixels, test.labels, names, scores[method])
        run.figure(f"{method}_extremes", figure)
    run.figure("histograms", anomaly_plots.draw_histograms(panels, label="score, nats"))
    run.figure("curves", plots.curves(run.history, {"mean AUROC": [f"valid_{method}_auroc" for method in SCORES]}))


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on one batch of random images, including binarisation, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.arange(config.batch_size, device=device) % 9 + 1
    model = VAE(config.latent_size, hidden=config.hidden).to(device)
    background = log_odds(images.cpu()).to(device)
    detector = Detector(0, background, model, make_optimizer(model, config.learning_rate))
    bf16 = config.run.precision == "bf16"
    return Workload(lambda: train_step(detector, images, labels, bf16=bf16), items=config.batch_size)
