"""Anomaly detection: an autoencoder and an RBM, trained without one class, shall recognise that class as anomalous.

    python -m ch03_autoencoder_rbm.train anomalies
    python -m ch03_autoencoder_rbm.train anomalies --data mnist --classes 1 7     # hold out only these classes

Each class is held out in turn. Scores, higher for anomalies: squared reconstruction error of the autoencoder, the same
relative to the squared image, free energy of the RBM. Baselines: squared error of PCA, isolation forest, and the amount
of ink.

Dimensions: B batch, N images, P pixels (784).
"""

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from ch03_autoencoder_rbm.boltzmann.gibbs import RBM, ContrastiveDivergence, sample
from ch03_autoencoder_rbm.boltzmann.rbm import make_rbm
from ch03_autoencoder_rbm.digits import autoencoder
from ch03_autoencoder_rbm.digits.autoencoder import Autoencoder, reconstruct, squared_error
from ch03_autoencoder_rbm.preprocessing import fixed_binary, intensities
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, require, require_positive
from common.data.anomalies.baselines import baseline_scores
from common.data.anomalies.held_out import anomalous, require_classes, without
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.progress import print_table
from common.run import Run
from common.schedule import linear_at, one_cycle, set_learning_rate

SCORES = ("autoencoder", "relative", "rbm")
"""Scores of this chapter's networks; the others are baselines."""

Scores = dict[str, dict[int, Tensor]]
"""(N,) scores of the test images by method and held-out class"""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the detectors."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "digits"
    """Image data set; the embedded digits by default, since two networks are trained for each class."""
    classes: tuple[int, ...] = tuple(range(10))
    """Classes to hold out in turn."""
    code_size: int = 32
    """Size of the autoencoder's code."""
    hidden_size: int = default_by("data", **{"auto": 500, "mnist": 500, "fashion-mnist": 500, "digits": 100})
    """Number of hidden units of the RBM. Default: 100 for digits, 500 for the others."""
    epochs: int | None = None
    """Passes over the training split. Default: 2, more on a small set (200 steps)."""
    batch_size: int = 128
    """Images per step, including those of the class that is held out, which are left out."""
    autoencoder_rate: float = 4e-3
    """Maximum learning rate of the autoencoder (Adam, one-cycle schedule)."""
    rbm_rate: float = 0.1
    """Initial learning rate of the RBM; decays linearly to zero."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "code_size", "hidden_size", "epochs", "batch_size", "autoencoder_rate", "rbm_rate")
        require(len(self.classes) > 0, "--classes needs at least one class", "none")
        require(len(set(self.classes)) == len(self.classes), "--classes must differ", self.classes)


@dataclass(frozen=True)
class Detector:
    """Autoencoder and RBM that are trained on all classes but one."""

    held_out: int
    autoencoder: Autoencoder
    optimizer: torch.optim.Optimizer
    rbm: RBM
    learner: ContrastiveDivergence

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint contains."""
        names = ("autoencoder", "optimizer", "rbm", "learner")
        return {f"{name}_{self.held_out}": getattr(self, name) for name in names}


def make_detector(train: Split, held_out: int, config: Config, run: Run) -> Detector:
    """Make both networks; the RBM's visible biases reproduce the mean of the training images."""
    network = Autoencoder(config.code_size).to(run.device)
    rbm = make_rbm(intensities(without(train, held_out).pixels), config.hidden_size).to(run.device)
    dtype = torch.bfloat16 if run.bf16 else torch.float32
    learner = ContrastiveDivergence(rbm, chains=100, momentum=0.5, centre=True, dtype=dtype)  # as in rbm.py
    return Detector(held_out, network, autoencoder.make_optimizer(network, config.autoencoder_rate), rbm, learner)


def train_step(
    detector: Detector, images: Tensor, labels: Tensor, *, done: float, config: Config, bf16: bool = False
) -> Tensor:
    """Take one step of both networks on the images of a batch that are not held out; return the autoencoder's loss.

    `done` is the completed share of the training.
    """
    pixels = intensities(images[labels != detector.held_out])
    if len(pixels) == 0:  # a small batch
        return torch.zeros((), device=images.device)
    detector.learner.step(detector.rbm, sample(pixels), linear_at(done, config.rbm_rate))
    return autoencoder.train_step(detector.autoencoder, detector.optimizer, pixels, pixels, bf16=bf16)


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
def score(detector: Detector, images: Tensor) -> dict[str, Tensor]:
    """(N, 1, 28, 28) uint8 -> (N,) scores of both networks, on the CPU; higher is more anomalous"""
    pixels, outputs = reconstruct(detector.autoencoder, images)
    error = squared_error(outputs, images)
    v = fixed_binary(images, "stochastic", detector.rbm.weight.device)
    free_energy = torch.cat([detector.rbm.free_energy(part) for part in v.split(2_000)])
    relative = error / pixels.square().mean(1).clamp(min=1e-6)
    return {"autoencoder": error, "relative": relative, "rbm": free_energy.cpu()}


def mean_auroc(detectors: list[Detector], split: Split) -> dict[str, float]:
    """Return the AUROC of each score, averaged over the held-out classes."""
    found = [(score(each, split.pixels), anomalous(split, each.held_out)) for each in detectors]
    return {f"{name}_auroc": fmean(auroc(scores[name], truth) for scores, truth in found) for name in SCORES}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the networks of every held-out class on the same batches; return the AUROC of all methods."""
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
        detectors = [make_detector(data.train, label, config, run) for label in config.classes]
        parts = {name: part for detector in detectors for name, part in detector.parts().items()}
        for epoch in run.epochs(epochs, len(batches), **parts):
            for step, (images, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                losses = []
                for each in detectors:
                    set_learning_rate(each.optimizer, one_cycle(step, steps, config.autoencoder_rate))
                    losses.append(train_step(each, images, labels, done=step / steps, config=config, bf16=run.bf16))
                run.step(torch.stack(losses).mean(), images=len(images))
            run.log(valid=mean_auroc(detectors, data.valid))
        scores: Scores = {name: {} for name in SCORES}
        for each in detectors:
            for name, values in score(each, data.test.pixels).items():
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
    for method in SCORES:
        of_class = table[method]
        for label in dict.fromkeys([min(of_class, key=of_class.__getitem__), max(of_class, key=of_class.__getitem__)]):
            truth, values = anomalous(test, label), scores[method][label]
            title = f"{method} without {names[label]}: AUROC {of_class[label]:.2f}"
            panels[title] = values[~truth], values[truth]
        figure = anomaly_plots.draw_extremes(test.pixels, test.labels, names, scores[method])
        run.figure(f"{method}_extremes", figure)
    run.figure("histograms", anomaly_plots.draw_histograms(panels, label="score"))
    run.figure("curves", plots.curves(run.history, {"mean AUROC": [f"valid_{method}_auroc" for method in SCORES]}))


def workload(config: Config, device: torch.device) -> Workload:
    """Training step of both networks on a batch of random images, for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.arange(config.batch_size, device=device) % 9 + 1
    network = Autoencoder(config.code_size).to(device)
    rbm = make_rbm(intensities(images), config.hidden_size).to(device)
    bf16 = config.run.precision == "bf16"
    learner = ContrastiveDivergence(rbm, chains=100, momentum=0.5, centre=True)
    detector = Detector(0, network, autoencoder.make_optimizer(network, config.autoencoder_rate), rbm, learner)
    return Workload(
        lambda: train_step(detector, images, labels, done=0.0, config=config, bf16=bf16), items=config.batch_size
    )
