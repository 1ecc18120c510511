"""Semi-supervised GAN: learn ten classes from few labels, with a discriminator that is also the classifier.

    python -m ch08_vae.train semi_supervised_gan
    python -m ch08_vae.train semi_supervised_gan --labels 50
    python -m ch08_vae.train semi_supervised_gan --data mnist --epochs 30

The classifier learns the classes of the labelled images, and to tell unlabelled from generated images. The generator
matches the mean features of the unlabelled images. Source: Salimans et al. (2016), Improved Techniques for Training
GANs. Three baselines see the labelled images only (baselines.py).

Dimensions: B batch, P pixels (784), F features (250), Z noise (100), K classes (10).
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ch08_vae.few_labels import figures
from ch08_vae.few_labels.baselines import accuracy, fit_network, fit_scikit_learn, predict
from ch08_vae.few_labels.labelled import FewLabels, few_labels, labelled_batch
from ch08_vae.few_labels.losses import class_loss, discriminator_loss, feature_matching_loss, real_probability
from ch08_vae.few_labels.networks import NOISE_SIZE, Classifier, make_generator
from ch08_vae.preprocessing import CLASSES, flat
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import set_learning_rate

INITIALISED_ON = 500
"""Number of unlabelled images for the initialisation of the classifier."""

SMALL = 10_000
"""Number of unlabelled images below which a data set is small."""

STEPS = 500
"""Number of steps on small data sets."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the semi-supervised GAN."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    labels: int = 100
    """Number of labelled training images, as many of each class; all other training images are unlabelled."""
    epochs: int | None = None
    """Number of epochs over the unlabelled images. Default: 30, or more on small data sets, for about 500 steps."""
    batch_size: int = 100
    """Number of unlabelled and of generated images in a batch."""
    labelled_batch_size: int = 50
    """Number of labelled images in a batch; not more than there are."""
    learning_rate: float | None = None
    """Learning rate of Adam for both networks; it decays linearly to zero in the second half of training. Default:
    0.003, or 0.001 on small data sets."""
    unlabelled_weight: float = 1.0
    """Weight of the loss of unlabelled and generated images, relative to the loss of the classes."""
    input_noise: float = 0.3
    """Standard deviation of the Gaussian noise that is added to the pixels in [0, 1] during training."""
    hidden_noise: float = 0.5
    """Standard deviation of the Gaussian noise that is added to the classifier's hidden units during training."""
    averaging: float = 0.999
    """Decay of the moving average of the classifier's weights, which is evaluated and saved."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require(self.labels >= CLASSES, f"--labels must be at least {CLASSES}, one for each class", self.labels)
        require_positive(self, "epochs", "labelled_batch_size", "learning_rate")
        require(self.batch_size >= 2, "--batch-size must be at least 2, for batch normalisation", self.batch_size)
        for name in ("unlabelled_weight", "input_noise", "hidden_noise"):
            flag = f"--{name.replace('_', '-')}"
            require(0 <= getattr(self, name) < float("inf"), f"{flag} must not be negative", getattr(self, name))
        require(0 <= self.averaging < 1, "--averaging must be at least 0 and below 1", self.averaging)


class Networks(nn.Module):
    """Classifier, a moving average of its weights, and generator."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.classifier = make_classifier(config)
        self.averaged = copy.deepcopy(self.classifier).requires_grad_(False).eval()
        self.generator = make_generator()

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Initialise the classifier on (B, P) unlabelled pixels."""
        self.classifier.initialise(x)
        self.averaged.load_state_dict(self.classifier.state_dict())

    @torch.no_grad()
    def average(self, step: int, decay: float) -> None:
        """Update the average m after step t: m = d m + (1 - d) w with d = min(decay, t / (t + 10))."""
        rate = 1 - min(decay, step / (step + 10))
        for mean, weight in zip(self.averaged.parameters(), self.classifier.parameters(), strict=True):
            mean.lerp_(weight, rate)


def make_classifier(config: Config) -> Classifier:
    """Create the classifier with the noise of the Config."""
    return Classifier(input_noise=config.input_noise, hidden_noise=config.hidden_noise)


def make_optimizers(networks: Networks) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Create fused Adam optimizers with beta1 = 0.5 for the trained weights of classifier and generator."""
    classifier, generator = (
        torch.optim.Adam(weights, betas=(0.5, 0.999), fused=True)
        for weights in (networks.classifier.trained(), networks.generator.parameters())
    )
    return classifier, generator


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of step t = 0 ... T - 1: eta(t) = peak min(1, 2 (T - t) / T)."""
    return peak * min(1.0, 2 * (steps - step) / steps)


def train_step(
    networks: Networks,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    x_labelled: Tensor,
    labels: Tensor,
    x_unlabelled: Tensor,
    *,
    unlabelled_weight: float = 1.0,
    bf16: bool = False,
) -> tuple[Tensor, Tensor]:
    """Take one step of both networks on (B, P) pixels in [0, 1]; return both losses, on the device.

    Both gradients are computed at the same weights, so generated images pass the classifier once.
    """
    classifier, generator = networks.classifier, networks.generator
    count = len(x_labelled)
    noise = torch.rand(len(x_unlabelled), NOISE_SIZE, device=x_unlabelled.device)
    with torch.autocast(x_unlabelled.device.type, torch.bfloat16, enabled=bf16):
        generated = generator(noise)
        x_generated = generated.detach().requires_grad_()
        on_real, of_real = classifier(torch.cat([x_labelled, x_unlabelled]))
        on_generated, of_generated = classifier(x_generated)
    matching = feature_matching_loss(of_real[count:].detach(), of_generated)
    loss = class_loss(on_real[:count], labels)
    loss = loss + unlabelled_weight * discriminator_loss(on_real[count:], on_generated)
    (gradient,) = torch.autograd.grad(matching, x_generated, retain_graph=True)  # not with respect to the classifier
    generated.backward(gradient)
    loss.backward(inputs=classifier.trained())  # not the pixels
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.detach(), matching.detach()


@torch.inference_mode()
def generate(generator: nn.Sequential, noise: Tensor) -> Tensor:
    """(N, Z) noise -> (N, P) generated images in [0, 1]; batch normalisation uses its running statistics"""
    generator.eval()
    images = generator(noise)
    generator.train()
    return images


@torch.inference_mode()
def monitor(networks: Networks, images: Split, few: FewLabels) -> dict[str, float]:
    """Return error, loss of the labelled images, and mean D of real and generated images, with averaged weights."""
    classifier = networks.averaged
    device = next(classifier.parameters()).device
    logits, _ = classifier(flat(images.pixels.to(device)))
    on_generated, _ = classifier(generate(networks.generator, torch.rand(1_000, NOISE_SIZE, device=device)))
    on_labelled, _ = classifier(flat(few.labelled.pixels))
    return {
        "error": 1 - float((logits.argmax(1).cpu() == images.labels).float().mean()),
        "labelled_loss": float(class_loss(on_labelled, few.labelled.labels)),
        "real": float(real_probability(logits).mean()),
        "generated": float(real_probability(on_generated).mean()),
    }


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train both networks; return the test accuracy of the classifier and of the baselines."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "this program trains in one process", distributed.world_size())
        few = few_labels(data, config.labels, config.run.seed).to(run.device)
        require(len(few.unlabelled) > 1, "--limit must leave at least 2 unlabelled images", len(few.unlabelled))
        batches = Batches(few.unlabelled, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or max(30, STEPS // len(batches))
        steps = epochs * len(batches)
        networks = Networks(config).to(run.device)
        networks.initialise(flat(few.unlabelled[:INITIALISED_ON]))
        optimizers = make_optimizers(networks)
        peak = config.learning_rate or (3e-3 if len(few.unlabelled) >= SMALL else 1e-3)
        parts = {"networks": networks, "classifier_optimizer": optimizers[0], "generator_optimizer": optimizers[1]}
        for epoch in run.epochs(epochs, len(batches), **parts):
            matching = torch.zeros((), device=run.device)
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                if len(images) < 2:  # batch normalisation needs two images
                    images = images.repeat(2, 1, 1, 1)
                for optimizer in optimizers:
                    set_learning_rate(optimizer, learning_rate(step, steps, peak))
                pixels, labels = labelled_batch(few.labelled, config.labelled_batch_size, run.generator)
                loss, matching_loss = train_step(
                    networks,
                    optimizers,
                    flat(pixels),
                    labels,
                    flat(images),
                    unlabelled_weight=config.unlabelled_weight,
                    bf16=run.bf16,
                )
                networks.average(step + 1, config.averaging)
                matching += matching_loss
                run.step(loss, images=len(images))
            measures = monitor(networks, data.valid, few)
            run.log(valid=measures, feature={"matching": float(matching) / len(batches)})
        run.save(networks)
        report(run, data, few, networks)
        return run.finish(test=evaluate(run, data, few, networks))


def evaluate(run: Run, data: ImageSet, few: FewLabels, networks: Networks) -> dict[str, float]:
    """Return the test accuracy of the classifier, and of three baselines trained on the labelled images."""
    plain = make_classifier(run.config).to(run.device)
    plain.initialise(flat(few.labelled.pixels))
    fit_network(plain, lambda x: plain(x)[0], few.labelled, flat)
    return {
        "accuracy": accuracy(lambda x: networks.averaged(x)[0], data.test, run.device),
        "plain_accuracy": accuracy(lambda x: plain(x)[0], data.test, run.device),
        **fit_scikit_learn(few.labelled, data),
    }


def report(run: Run, data: ImageSet, few: FewLabels, networks: Networks) -> None:
    """Draw labelled and generated images, errors on the test set, and curves."""
    from common.drawing import plots

    run.figure("labelled", figures.draw_labelled(few, data.class_names))
    noise = torch.rand(100, NOISE_SIZE, device=run.device)
    run.figure("generated", figures.draw_generated(generate(networks.generator, noise)))
    predicted = predict(lambda x: networks.averaged(x)[0], data.test, run.device)
    if errors := figures.draw_errors(data.test, predicted, data.class_names):
        run.figure("errors", errors)
    panels = {
        "loss of the labelled images": ["valid_labelled_loss"],
        "validation error": ["valid_error"],
        "mean D": ["valid_real", "valid_generated"],
        "feature matching": ["feature_matching"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[Classifier, Config]:
    """Load the classifier with averaged weights, and the Config, of a run folder."""
    config = read_config(folder, Config)
    networks = Networks(config)
    load_weights(networks, folder)
    return networks.averaged, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step of both networks on batches of random images, for the device benchmark."""
    networks = Networks(config).to(device)
    networks.initialise(torch.rand(INITIALISED_ON, 784, device=device))
    optimizers = make_optimizers(networks)
    labelled = torch.rand(min(config.labels, config.labelled_batch_size), 784, device=device)
    labels = torch.randint(CLASSES, (len(labelled),), device=device)
    unlabelled = torch.rand(config.batch_size, 784, device=device)
    bf16 = config.run.precision == "bf16"
    return Workload(
        lambda: train_step(networks, optimizers, labelled, labels, unlabelled, bf16=bf16)[0], items=config.batch_size
    )
