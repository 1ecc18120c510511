"""Spatial transformers: digits that are rotated, moved, hidden among distractors, or read one after the other.

    python -m ch06_cnn.train spatial                                   # one digit among distractors
    python -m ch06_cnn.train spatial --network cnn                     # the same classifier without a transformer
    python -m ch06_cnn.train spatial --task rotated
    python -m ch06_cnn.train spatial --task sequence                   # three digits, read by a recurrent network
    python -m ch06_cnn.train spatial --task sequence --network spn     # one transformer for all three digits

The network gets the classes of the digits from left to right, but not where the digits are.

Dimensions: N images, B batch, S image size, K digits, R regions of an image, 10 classes.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.spatial.film import Film
from ch06_cnn.spatial.networks import CLASSES, CNN, SPN, Features, Form, RecurrentSPN, Sampler
from ch06_cnn.spatial.visualise import report
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.data.images.transformed import DIGIT, TRANSFORMATIONS, Transformation, draw
from common.run import Run, load_weights
from common.schedule import one_cycle_at

CLIP = 5.0
"""Maximum gradient norm; larger gradients are rescaled."""
VALID_SEED, TEST_SEED, TRAIN_SEED = 1, 2, 3
"""Seeds of the places, angles and distractors of the fixed images, the same in all runs."""
AT_ONCE = 500
"""Number of images that are classified at once."""

Network = CNN | SPN | RecurrentSPN


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the spatial transformer network."""

    data: Literal["auto", "mnist", "digits"] = "auto"
    """Digits; auto takes MNIST if it is on disk or can be downloaded, else the embedded digits."""
    task: Literal["rotated", "moved", "cluttered", "sequence"] = "cluttered"
    """Images: a digit rotated by up to 90 degrees; one rotated by up to 45 degrees, scaled and moved; one at a random
    place among 16 distractors; or three digits side by side among 8 distractors."""
    network: Literal["cnn", "spn", "rnn-spn"] = default_by(
        "task", rotated="spn", moved="spn", cluttered="spn", sequence="rnn-spn"
    )
    """Network: a CNN on the whole image, a spatial transformer network (SPN) with one region, or a recurrent SPN with
    one region per digit. Default: rnn-spn for sequence, else spn."""
    form: Form = "affine"
    """Transformation: any affine one, or attention (scale and position, without rotation)."""
    features: Features = "positions"
    """Features of the localisation network: expected positions of its feature maps, or the maps themselves (flat)."""
    crop_size: int = default_by(
        "task",
        **dict.fromkeys(("rotated", "moved", "cluttered"), DIGIT),
        sequence=default_by("network", **{"cnn": DIGIT, "spn": 50, "rnn-spn": DIGIT}),
    )
    """Height and width of the transformer's output in pixels. Default: 28; 50 for an SPN that reads a sequence."""
    initial_scale: float = 1.0
    """Scale of the regions before training, at the centre of the image; 1 is the whole image."""
    sampler: Sampler = "torch"
    """Affine grid and bilinear sampler: torch's, or those by hand in transformer.py."""
    fresh: bool = True
    """Draw new places, angles and distractors in every epoch instead of once."""
    epochs: int | None = None
    """Number of epochs. Default: 10, or more on small data sets, for about 600 steps."""
    batch_size: int = 64
    """Batch size in images, over all processes."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW (one-cycle schedule)."""
    localisation_rate: float = 0.3
    """Learning rate of the localisation network, relative to that of the classifier."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "epochs", "batch_size", "learning_rate", "localisation_rate")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(0 < self.initial_scale <= 2, "--initial-scale must be above 0 and at most 2", self.initial_scale)
        require(8 <= self.crop_size <= 200, "--crop-size must be between 8 and 200", self.crop_size)

    @property
    def transformation(self) -> Transformation:
        """The transformation of the digits."""
        return TRANSFORMATIONS[self.task]


def make_model(config: Config) -> Network:
    """Build the network that the Config names."""
    size, digits = config.transformation.size, config.transformation.digits
    if config.network == "cnn":
        model = CNN(size, digits)
    else:
        kind = SPN if config.network == "spn" else RecurrentSPN
        model = kind(
            size,
            config.crop_size,
            digits,
            form=config.form,
            features=config.features,
            initial_scale=config.initial_scale,
            sampler=config.sampler,
        )
    return model.to(memory_format=torch.channels_last)


def make_optimizer(model: Network, config: Config) -> torch.optim.Optimizer:
    """Create a fused AdamW optimizer with two parameter groups: the classifier, and the localisation network.

    Each group has the factor `relative` of its learning rate.
    """
    localisation = [p for name, p in model.named_parameters() if not isinstance(model, CNN) and is_localisation(name)]
    known = set(map(id, localisation))
    classifier = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": classifier, "relative": 1.0}, {"params": localisation, "relative": config.localisation_rate}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay, fused=True)


def is_localisation(name: str) -> bool:
    """Return whether a parameter of an SPN belongs to the localisation network: all but the classifier."""
    return not name.startswith("classifier.")


def set_progress(optimizer: torch.optim.Optimizer, progress: float, peak: float) -> None:
    """Set the learning rates for the given progress of the training, 0 ... 1."""
    for group in optimizer.param_groups:
        group["lr"] = group["relative"] * one_cycle_at(progress, peak, warm_up=0.1)


def scaled(images: Tensor) -> Tensor:
    """(B, 1, S, S) uint8 -> floats in [0, 1]; the background is 0, like the sampler's outside."""
    return images.float() / 255


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one gradient step on (B, 1, S, S) pixels and (B, K) labels; return the mean loss of a digit."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = model(pixels)
    loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def predict(model: Network, images: Tensor, *, bf16: bool = False) -> tuple[Tensor, Tensor]:
    """(N, 1, S, S) uint8 -> (N, K, 10) logits and (N, R, 2, 3) transformations on the CPU, in evaluation mode"""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    logits, thetas = [], []
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for part in images.split(AT_ONCE):
            pixels = scaled(part.to(device))
            thetas.append(model.attend(pixels).float().cpu())
            logits.append(model(pixels).float().cpu())
    model.train(was_training)
    return torch.cat(logits), torch.cat(thetas)


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """(N, K, 10) logits, (N, K) labels -> error and cross-entropy of a digit; error of a sequence, if K > 1"""
    wrong = logits.argmax(2) != labels
    measures = {
        "error_rate": float(wrong.float().mean()),
        "loss": float(F.cross_entropy(logits.flatten(0, 1), labels.flatten())),
    }
    return measures | ({"sequence_error_rate": float(wrong.any(1).float().mean())} if labels.shape[1] > 1 else {})


def fixed_images(digits: Split, transformation: Transformation, seed: int) -> Split:
    """Draw the images of a split, the same in all runs."""
    return draw(digits, transformation, torch.Generator().manual_seed(seed))


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the network and return its test metrics."""
    data = data or load_images(config.data, limit=config.run.limit)
    transformation = config.transformation
    shown = f"{data.card.description}; {config.task}, images of {transformation.size}x{transformation.size} pixels"
    with Run.open(__name__, config, replace(data.card, description=shown)) as run:
        digits = data.train if config.fresh else fixed_images(data.train, transformation, TRAIN_SEED)
        batches = Batches(
            digits.pixels, digits.labels, batch_size=config.batch_size, device=run.device, generator=run.generator
        )
        valid, test = (
            fixed_images(split, transformation, seed)
            for split, seed in ((data.valid, VALID_SEED), (data.test, TEST_SEED))
        )
        epochs = config.epochs or max(10, 600 // len(batches))
        steps = epochs * len(batches)
        model = make_model(config).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        film, attend = Film(valid.pixels, steps), lambda images: predict(model, images, bf16=run.bf16)[1]
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer, film=film):
            for step, (images, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                film.take(step, attend)
                if config.fresh:
                    drawn = draw(Split(images, labels), transformation, run.generator)
                    images, labels = drawn.pixels, drawn.labels
                set_progress(optimizer, step / steps, config.learning_rate)
                loss = train_step(parallel, optimizer, scaled(images), labels, bf16=run.bf16)
                run.step(loss, images=len(images))
            run.log(valid=measure(predict(model, valid.pixels, bf16=run.bf16)[0], valid.labels))
        film.take(steps, attend)
        logits, theta = predict(model, test.pixels, bf16=run.bf16)
        run.save(model)
        if run.is_main:
            report(run, model, partial(predict, model, bf16=run.bf16), data, test, (logits, theta), film)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return run.finish(run={"parameters": parameters}, test=measure(logits, test.labels))


def restore(folder: Path) -> tuple[Network, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random images, for the device benchmark."""
    size, count = config.transformation.size, config.batch_size
    images = torch.randint(256, (count, 1, size, size), dtype=torch.uint8, device=device)
    labels = torch.randint(CLASSES, (count, config.transformation.digits), device=device)
    model = make_model(config).to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"
    return Workload(lambda: train_step(model, optimizer, scaled(images), labels, bf16=bf16), items=count)
