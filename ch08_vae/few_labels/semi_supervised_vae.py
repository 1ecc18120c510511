"""Semi-supervised VAE (the model M2): learn ten classes from few labels, with the class as a latent variable.

    python -m ch08_vae.train semi_supervised_vae
    python -m ch08_vae.train semi_supervised_vae --labels 50
    python -m ch08_vae.train semi_supervised_vae --data mnist --epochs 15

A labelled image has a lower bound of log p(x, y); the bound of log p(x) of an unlabelled image is a sum over all
classes. Source: Kingma et al. (2014), Semi-Supervised Learning with Deep Generative Models. Three baselines see the
labelled images only (baselines.py).

Dimensions: B batch, P pixels (784), Z latent units, K classes (10).
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ch08_vae.few_labels import figures
from ch08_vae.few_labels.baselines import accuracy, fit_network, fit_scikit_learn, predict
from ch08_vae.few_labels.labelled import FewLabels, few_labels, labelled_batch
from ch08_vae.few_labels.m2 import M2, bound_of_class, every_class, one_hot, unlabelled_bound
from ch08_vae.preprocessing import CLASSES, fixed, flat, sample_bernoulli
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import one_cycle, set_learning_rate

STEPS = 300
"""Number of steps on small data sets."""

BOUND_IMAGES = 1_000
"""Maximum number of images for the mean of the bound of log p(x)."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the semi-supervised VAE."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    labels: int = 100
    """Number of labelled training images, as many of each class; all other training images are unlabelled."""
    latent_size: int = 50
    """Number of latent units Z of the style."""
    hidden_size: int = 500
    """Number of units of each hidden layer of classifier, encoder and decoder."""
    alpha: float = 30.0
    """Weight of the classification loss of the labelled images, relative to the bounds per image."""
    epochs: int | None = None
    """Number of epochs over the unlabelled images. Default: 15, or more on small data sets, for about 300 steps."""
    batch_size: int = 100
    """Number of unlabelled images in a batch."""
    labelled_batch_size: int = 50
    """Number of labelled images in a batch; not more than there are."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require(self.labels >= CLASSES, f"--labels must be at least {CLASSES}, one for each class", self.labels)
        require_positive(self, "latent_size", "hidden_size", "epochs", "batch_size", "labelled_batch_size")
        require_positive(self, "learning_rate")
        require(0 <= self.alpha < float("inf"), "--alpha must not be negative", self.alpha)


def make_model(config: Config) -> M2:
    """Create the model of the Config."""
    return M2(config.latent_size, config.hidden_size)


def make_optimizer(model: M2, config: Config) -> torch.optim.Optimizer:
    """Create a fused Adam optimizer."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def train_step(
    model: M2,
    optimizer: torch.optim.Optimizer,
    x_labelled: Tensor,
    labels: Tensor,
    x_unlabelled: Tensor,
    *,
    labelled_share: float,
    alpha: float,
    bf16: bool = False,
) -> tuple[Tensor, Tensor]:
    """Take one gradient step; return the loss and the classification loss of the labelled images, on the device.

    `labelled_share` is the number of labelled images per unlabelled image, M / (N - M).
    """
    with torch.autocast(x_unlabelled.device.type, torch.bfloat16, enabled=bf16):
        labelled = bound_of_class(model, x_labelled, one_hot(labels))
        bounds = bound_of_class(model, x_unlabelled, every_class(x_unlabelled.device))
        logits = model.classify(torch.cat([x_labelled, x_unlabelled]))
    classification = F.cross_entropy(logits[: len(labels)], labels)
    unlabelled = unlabelled_bound(bounds, logits[len(labels) :])
    loss = -unlabelled.mean() - labelled_share * labelled.mean() + alpha * classification
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), classification.detach()


@torch.inference_mode()
def measure(model: M2, split: Split, device: torch.device) -> dict[str, float]:
    """Return the error of q(y | x) on grey levels, and the mean bound U of the first images, in nats per image."""
    bounds = []
    for x in fixed(split.pixels[:BOUND_IMAGES], "dynamic", device).split(500):
        bounds.append(unlabelled_bound(bound_of_class(model, x, every_class(device)), model.classify(x)).cpu())
    return {"error": 1 - accuracy(model.classify, split, device), "bound": float(torch.cat(bounds).mean())}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the model; return the test accuracy of its classifier and of the baselines, and the test bound."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "this program trains in one process", distributed.world_size())
        few = few_labels(data, config.labels, config.run.seed).to(run.device)
        batches = Batches(few.unlabelled, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(15, STEPS // len(batches))
        steps = epochs * len(batches)
        model = make_model(config).to(run.device)
        optimizer = make_optimizer(model, config)
        weights = {"labelled_share": len(few.labelled) / len(few.unlabelled), "alpha": config.alpha}
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer):
            classification = torch.zeros((), device=run.device)
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(optimizer, one_cycle(step, steps, config.learning_rate, warm_up=0.1))
                pixels, labels = labelled_batch(few.labelled, config.labelled_batch_size, run.generator)
                x_labelled, x_unlabelled = sample_bernoulli(pixels), sample_bernoulli(images)
                loss, loss_of_labels = train_step(
                    model, optimizer, x_labelled, labels, x_unlabelled, **weights, bf16=run.bf16
                )
                classification += loss_of_labels
                run.step(loss, images=len(images))
            measures = measure(model, data.valid, run.device)
            run.log(labelled={"loss": float(classification) / len(batches)}, valid=measures)
        run.save(model)
        report(run, data, few, model)
        return run.finish(test=evaluate(run, data, few, model))


def evaluate(run: Run, data: ImageSet, few: FewLabels, model: M2) -> dict[str, float]:
    """Return test accuracy and bound, and the accuracy of three baselines trained on the labelled images."""
    plain = make_model(run.config).to(run.device)
    fit_network(plain.classifier, plain.classify, few.labelled, sample_bernoulli)
    measures = measure(model, data.test, run.device)
    return {
        "accuracy": 1 - measures["error"],
        "plain_accuracy": accuracy(plain.classify, data.test, run.device),
        **fit_scikit_learn(few.labelled, data),
        "bound": measures["bound"],
    }


@torch.inference_mode()
def analogies(model: M2, x: Tensor) -> Tensor:
    """(N, P) pixels -> (N, K, P) images of the same style z = mu(x, y), y the predicted class, in every class"""
    mu, _ = model.encode(x, one_hot(model.classify(x).argmax(1)))
    return model.decode(mu, every_class(x.device).expand(-1, len(x), -1)).sigmoid().transpose(0, 1)


def report(run: Run, data: ImageSet, few: FewLabels, model: M2) -> None:
    """Draw labelled images, analogies, errors on the test set, and curves."""
    from common.drawing import plots

    names = data.class_names
    run.figure("labelled", figures.draw_labelled(few, names))
    x = flat(data.test.pixels[:10].to(run.device))
    run.figure("analogies", figures.draw_analogies(x, analogies(model, x), names))
    if errors := figures.draw_errors(data.test, predict(model.classify, data.test, run.device), names):
        run.figure("errors", errors)
    panels = {
        "loss of the labelled images": ["labelled_loss"],
        "validation error": ["valid_error"],
        "bound U of unlabelled images": ["valid_bound"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[M2, Config]:
    """Load a trained model and its Config from a run folder."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on batches of random binary pixels, for the device benchmark."""
    model = make_model(config).to(device)
    optimizer = make_optimizer(model, config)
    labelled = torch.rand(min(config.labels, config.labelled_batch_size), 784, device=device).round()
    labels = torch.randint(CLASSES, (len(labelled),), device=device)
    unlabelled = torch.rand(config.batch_size, 784, device=device).round()
    step = partial(train_step, model, optimizer, labelled, labels, unlabelled, labelled_share=0.01, alpha=config.alpha)
    bf16 = config.run.precision == "bf16"
    return Workload(lambda: step(bf16=bf16)[0], items=config.batch_size)
