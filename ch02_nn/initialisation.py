"""Weight initialisation: magnitude of activations and gradients in a deep network before training.

    python -m ch02_nn.train initialisation
    python -m ch02_nn.train initialisation --activation tanh

A linear layer with I inputs, O outputs and independent weights of mean 0 and variance v multiplies the mean square of
its inputs by I v, and in the backward pass that of the gradients by O v. Twenty layers raise these factors to the
twentieth power. Glorot & Bengio (2010) choose v = 2 / (I + O), a compromise between both passes. He et al. (2015)
choose v = 2 / I, because ReLU halves the mean square. A gain multiplies the standard deviation of the weights to
compensate for the activation function: torch.nn.init.calculate_gain returns sqrt(2) for ReLU and 5/3 for tanh.

Dimensions: B samples, I inputs of a layer, O outputs of a layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ch02_nn.activations import ACTIVATIONS, Activation
from common.config import RunOptions, require, require_positive
from common.data.source import DataCard, sha256_of
from common.device import widest_float
from common.progress import print_table
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TANH_GAIN = 5 / 3
"""Gain for tanh, as in torch.nn.init.calculate_gain("tanh")."""


@torch.no_grad()
def zeros(weight: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: ARG001  # not random
    """Set all weights to 0: all units of a layer compute the same value, and no gradient reaches earlier layers."""
    weight.zero_()


@torch.no_grad()
def small_normal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Sample from N(0, 0.01²), independently of the layer size."""
    weight.normal_(0, 0.01, generator=generator)


@torch.no_grad()
def unit_normal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Sample from N(0, 1), independently of the layer size."""
    weight.normal_(generator=generator)


@torch.no_grad()
def glorot_normal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Sample from N(0, 2 / (I + O)), as Gorgonia's GlorotN(1)."""
    weight.normal_(0, math.sqrt(2 / sum(weight.shape)), generator=generator)


@torch.no_grad()
def glorot_uniform(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Sample from U(-a, a) with a = sqrt(6 / (I + O)) and variance a² / 3, as Gorgonia's GlorotU(1)."""
    bound = math.sqrt(6 / sum(weight.shape))
    weight.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def glorot_normal_tanh(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Sample from N(0, (5/3)² 2 / (I + O)): Glorot with the gain for tanh."""
    weight.normal_(0, TANH_GAIN * math.sqrt(2 / sum(weight.shape)), generator=generator)


@torch.no_grad()
def he_normal(weight: Tensor, generator: torch.Generator | None = None) -> None:
    """Sample from N(0, 2 / I) for a weight (O, I)."""
    weight.normal_(0, math.sqrt(2 / weight.shape[1]), generator=generator)


INITIALISATIONS: dict[str, Callable[..., None]] = {
    "zeros": zeros,
    "small-normal": small_normal,
    "unit-normal": unit_normal,
    "glorot-normal": glorot_normal,
    "glorot-uniform": glorot_uniform,
    "glorot-normal-tanh": glorot_normal_tanh,
    "he-normal": he_normal,
}
"""Functions that initialise a weight (O, I) in place, optionally with a random generator."""


@dataclass(frozen=True)
class Config:
    """Activation function and shape of the network."""

    activation: Literal["relu", "tanh", "sigmoid", "leaky-relu", "elu", "selu", "gelu", "silu", "linear"] = "relu"
    """Activation function of each layer."""
    depth: int = 20
    """Number of layers."""
    width: int = 256
    """Number of units per layer."""
    samples: int = 512
    """Number of samples: standard normal inputs, and standard normal gradients of the last activations."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "depth", "width", "samples")
        require(self.width * self.samples >= 2, "--width times --samples must be at least 2", self.width * self.samples)


@dataclass(frozen=True)
class Signals:
    """Activations of each layer, and gradients of the loss with respect to them."""

    activations: list[Tensor]
    gradients: list[Tensor]

    def deviations(self) -> tuple[list[float], list[float]]:
        """Compute the standard deviations of the activations and of the gradients of each layer."""
        return [float(a.std()) for a in self.activations], [float(d.std()) for d in self.gradients]


def signals(weights: list[Tensor], x: Tensor, d: Tensor, activation: Activation) -> Signals:
    """Propagate inputs x (B, I) forward, and gradients d (B, O) with respect to the last activations backward."""
    activations, slopes, gradients = [], [], []
    for weight in weights:
        z = x @ weight.mT
        x = activation.function(z)
        activations.append(x)
        slopes.append(activation.derivative(z))
    for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
        gradients.append(d)
        d = (d * slope) @ weight
    return Signals(activations, gradients[::-1])


def train(config: Config) -> dict[str, float]:
    """Compare all initialisations; return the standard deviations of the last activations and the first gradients."""
    # A second generator with the same seed would sample weights that equal the inputs.
    generator = torch.Generator().manual_seed(config.run.seed)
    x, d = torch.randn(2, config.samples, config.width, generator=generator, dtype=torch.float64)
    card = DataCard("normal-noise", True, sha256_of(x, d), f"{config.samples} samples of {config.width} numbers")
    with Run.open(__name__, config, card, arithmetic="fp64") as run:
        dtype = widest_float(run.device)
        activation = ACTIVATIONS[config.activation]
        found: dict[str, Signals] = {}
        for name, fill in INITIALISATIONS.items():
            weights = [torch.empty(config.width, config.width, dtype=dtype) for _ in range(config.depth)]
            for weight in weights:
                fill(weight, generator)
            weights = [weight.to(run.device) for weight in weights]
            found[name] = signals(weights, x.to(run.device, dtype), d.to(run.device, dtype), activation)
        rows, metrics = [], {}
        for name, signal in found.items():
            forward, back = signal.deviations()
            rows.append([name, forward[0], forward[-1], back[-1], back[0]])
            if not all(map(math.isfinite, (*forward, *back))):
                precision = str(dtype).removeprefix("torch.")
                raise FloatingPointError(f"{name} overflows {precision}: lower --depth or --width")
            key = name.replace("-", "_")
            metrics |= {f"{key}_activation": forward[-1], f"{key}_gradient": back[0]}
        headings = ["initial weights", "activations, first layer", "last layer", "gradients, last layer", "first layer"]
        print_table(headings, rows, title=f"standard deviations, {config.depth} layers, {config.activation}")
        run.figure("deviations", draw_deviations(found))
        run.figure("activations", draw_histograms(found, config.depth))
        return run.finish(run=metrics)


def draw_deviations(found: dict[str, Signals]) -> "Figure":
    """Draw the standard deviations of activations and gradients by layer."""
    from common.drawing import plots

    panels: dict[str, dict[str, plots.Line]] = {"activations": {}, "gradients": {}}
    for name, signal in found.items():
        for panel, deviations in zip(panels.values(), signal.deviations(), strict=True):
            layers = [number for number, deviation in enumerate(deviations, start=1) if deviation > 0]
            panel[name] = (layers, [deviations[number - 1] for number in layers])
    return plots.line_panels(panels, columns=2, xlabel="layer", ylabel="standard deviation", log_y=True)


def draw_histograms(found: dict[str, Signals], depth: int) -> "Figure":
    """Draw histograms of the activations of up to four layers."""
    from common.drawing import plots

    shown = sorted({1, max(1, depth // 4), max(1, depth // 2), depth})
    panels: dict[str, dict[str, plots.Line]] = {}
    for name, signal in found.items():
        top = max(float(signal.activations[0].abs().max()), 1e-3)
        panels[name] = {}
        for number in shown:
            values = signal.activations[number - 1].float().cpu()
            counts = torch.histc(values, bins=60, min=-top, max=top)
            centres = torch.linspace(-top, top, 61)[:-1] + top / 60
            panels[name][f"layer {number}"] = (centres, (counts / values.numel()).clamp(min=1e-6))
    return plots.line_panels(panels, columns=3, xlabel="activation", ylabel="fraction", log_y=True)
