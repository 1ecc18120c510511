"""Softmax regression and a multilayer perceptron on digits, by hand and with nn.

    python -m ch02_nn.train classifier
    python -m ch02_nn.train classifier --model softmax --by hand
    python -m ch02_nn.train classifier --optimizer momentum --learning-rate 0.1 --schedule one-cycle

With `--by nn`, autograd computes the gradients and torch.optim updates the weights. With `--by hand`, `backprop.py`
computes the gradients with `losses.py` and `activations.py`, and `optimizers.py` updates the weights.

Dimensions: B batch, N images, P pixels (784), H hidden units, K classes (10).
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_nn import backprop, losses
from ch02_nn.activations import ACTIVATIONS
from ch02_nn.initialisation import INITIALISATIONS
from ch02_nn.optimizers import LIBRARY, OPTIMIZERS
from ch02_nn.schedules import SCHEDULES
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet
from common.data.images.loading import load_images
from common.run import Run, load_weights
from common.schedule import set_learning_rate

OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "gorgonia-rmsprop", "adadelta", "adam", "adamw"
]
ActivationName = Literal["relu", "tanh", "sigmoid", "leaky-relu", "elu", "selu", "softplus", "gelu", "silu", "linear"]
InitialisationName = Literal[
    "zeros", "small-normal", "unit-normal", "glorot-normal", "glorot-uniform", "glorot-normal-tanh", "he-normal"
]


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the classifier."""

    data: Literal["auto", "mnist", "fashion-mnist", "digits"] = "auto"
    """Data set; auto uses MNIST if it is on disk or can be downloaded, otherwise the embedded digits."""
    model: Literal["softmax", "mlp"] = "mlp"
    """Softmax regression (784-10) or a multilayer perceptron (784-H-10)."""
    by: Literal["nn", "hand"] = "nn"
    """Gradients and updates by autograd and torch.optim (nn), or by the code of this chapter (hand)."""
    hidden_size: int = 128
    """Number H of hidden units of the multilayer perceptron."""
    activation: ActivationName = "relu"
    """Activation function of the hidden layer."""
    initialisation: InitialisationName = "glorot-uniform"
    """Initialisation of the weights; biases are initialised with 0."""
    optimizer: OptimizerName = "adam"
    """Optimizer; momentum and nesterov have the momentum 0.9."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    schedule: Literal["constant", "step", "cosine", "one-cycle", "warm-up"] = "cosine"
    """Learning-rate schedule over all training steps."""
    weight_decay: float = 0.0
    """Weight decay of the optimizer."""
    epochs: int | None = None
    """Number of epochs. Default: 5, or more on a small data set, for about 1,000 steps."""
    batch_size: int = 64
    """Batch size in images."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "learning_rate", "epochs", "batch_size")
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        if self.by == "hand":
            require(self.run.precision == "fp32", "--by hand needs --precision fp32", self.run.precision)


class Classifier(nn.Module):
    """Linear layers with an activation function after each but the last; one layer is softmax regression."""

    def __init__(
        self, sizes: tuple[int, ...], activation: str = "relu", initialisation: str = "glorot-uniform"
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.linears = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        for weight, bias in self.layers():
            INITIALISATIONS[initialisation](weight)
            nn.init.zeros_(bias)

    def layers(self) -> list[backprop.Layer]:
        """Return the weight and the bias of each layer."""
        return [(linear.weight, linear.bias) for linear in self.linears if isinstance(linear, nn.Linear)]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, P) scaled pixels -> (B, K) logits"""
        *hidden, last = self.linears
        for linear in hidden:
            pixels = self.activation.library(linear(pixels))
        return last(pixels)


def make_model(config: Config) -> Classifier:
    """Build the network of a Config."""
    sizes = (784, 10) if config.model == "softmax" else (784, config.hidden_size, 10)
    return Classifier(sizes, config.activation, config.initialisation)


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Build the optimizer, of torch.optim or of this chapter."""
    kinds = OPTIMIZERS if config.by == "hand" else LIBRARY
    return kinds[config.optimizer](model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)


def scaled(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, P) floats in [0, 1]"""
    return images.flatten(1).float().div_(255)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one training step by autograd; return the loss on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = model(pixels)
    loss = F.cross_entropy(logits.float() if bf16 else logits, labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.no_grad()
def hand_step(model: Classifier, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor) -> Tensor:
    """Take the same training step without autograd; return the loss on the device."""
    layers = model.layers()
    trace = backprop.forward(layers, pixels, model.activation)
    logits = trace.pre_activations[-1]
    gradients = backprop.backward(layers, trace, losses.cross_entropy_gradient(logits, labels), model.activation)
    for layer, layer_gradients in zip(layers, gradients, strict=True):
        for parameter, gradient in zip(layer, layer_gradients, strict=True):
            parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad()
    return losses.cross_entropy(logits, labels)


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """(N, 1, 28, 28) uint8 -> (N, K) logits on the CPU"""
    device = next(model.parameters()).device
    return torch.cat([model(scaled(part.to(device))).float().cpu() for part in images.split(2_000)])


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute accuracy and cross-entropy in nats per image."""
    accuracy = (logits.argmax(1) == labels).float().mean()
    return {"accuracy": float(accuracy), "loss": float(losses.cross_entropy(logits, labels))}


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Train the classifier; return its test metrics."""
    data = data or load_images(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "this program trains in one process", distributed.world_size())
        batches = Batches(
            data.train.pixels,
            data.train.labels,
            batch_size=config.batch_size,
            device=run.device,
            generator=run.generator,
        )
        epochs = config.epochs or max(5, 1_000 // len(batches))
        model = make_model(config).to(run.device)
        optimizer = make_optimizer(model, config)
        schedule = SCHEDULES[config.schedule]
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer):
            for step, (images, labels) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(optimizer, schedule(step, epochs * len(batches), config.learning_rate))
                if config.by == "hand":
                    loss = hand_step(model, optimizer, scaled(images), labels)
                else:
                    loss = train_step(model, optimizer, scaled(images), labels, bf16=run.bf16)
                run.step(loss, images=len(images))
            rate = {"learning_rate": optimizer.param_groups[0]["lr"]}
            run.log(valid=measure(predict(model, data.valid.pixels), data.valid.labels), run=rate)
        logits = predict(model, data.test.pixels)
        run.save(model)
        report(run, data, model, logits)
        return run.finish(test=measure(logits, data.test.labels))


def report(run: Run, data: ImageSet, model: Classifier, logits: Tensor) -> None:
    """Draw confusion matrix, learning curves, first-layer weights, and misclassified images with the largest loss."""
    from common.drawing import plots

    predictions = logits.argmax(1)
    run.figure("confusion", plots.confusion_matrix(data.test.labels, predictions, data.class_names))
    panels = {
        "loss": ["train_loss", "valid_loss"],
        "accuracy": ["valid_accuracy"],
        "learning rate": ["learning_rate"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    weight = model.layers()[0][0].detach()[:40].cpu()
    pictures = (0.5 + weight / (2 * weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12))).view(-1, 1, 28, 28)
    titles = list(data.class_names) if len(model.linears) == 1 else None
    run.figure("weights", plots.image_grid(pictures, columns=10, titles=titles))
    chosen = worst_mistakes(logits, data.test.labels)
    if len(chosen):
        titles = [f"{int(data.test.labels[n])} → {int(predictions[n])}" for n in chosen]
        run.figure("mistakes", plots.image_grid(data.test.pixels[chosen], columns=10, titles=titles))


def worst_mistakes(logits: Tensor, labels: Tensor, count: int = 20) -> Tensor:
    """(N, K) logits, (N,) labels -> indices of at most `count` misclassified images, by decreasing loss"""
    loss = F.cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero()[:, 0]
    return wrong[loss[wrong].argsort(descending=True)][:count]


def restore(folder: Path) -> tuple[Classifier, Config]:
    """Load the classifier and the Config of a run folder."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Return the training step on a batch of random images for the device benchmark."""
    images = torch.randint(256, (config.batch_size, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (config.batch_size,), device=device)
    model = make_model(config).to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"

    def step() -> Tensor:
        if config.by == "hand":
            return hand_step(model, optimizer, scaled(images), labels)
        return train_step(model, optimizer, scaled(images), labels, bf16=bf16)

    return Workload(step, items=config.batch_size)
