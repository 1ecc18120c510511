"""Activation functions and their derivatives by hand, compared with PyTorch.

    python -m ch02_nn.train activations

Each activation function f(z) is followed by its derivative f'(z). The derivatives of ReLU, leaky ReLU and SELU jump at
z = 0; they have the limit from the left there, as in PyTorch. The derivative of the step function is 0 everywhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from common.config import RunOptions, require, require_positive
from common.data.source import DataCard, sha256_of
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAK = 0.01
"""Slope of the leaky ReLU below zero (Maas et al. 2013)."""
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""alpha and lambda, which keep mean 0 and variance 1 from layer to layer (Klambauer et al. 2017, equation 14)."""


def step(z: Tensor) -> Tensor:
    """f(z) = 1 where z >= 0, else 0: the step function of the perceptron (Rosenblatt 1958)"""
    return (z >= 0).to(z.dtype)


def step_derivative(z: Tensor) -> Tensor:
    """f'(z) = 0"""
    return torch.zeros_like(z)


def linear(z: Tensor) -> Tensor:
    """f(z) = z; several layers without activation function are equivalent to one linear layer."""
    return z.clone()


def linear_derivative(z: Tensor) -> Tensor:
    """f'(z) = 1"""
    return torch.ones_like(z)


def sigmoid(z: Tensor) -> Tensor:
    """f(z) = 1 / (1 + e^-z); if e^-z overflows, the result 1 / inf = 0 is correct."""
    return 1 / (1 + torch.exp(-z))


def sigmoid_derivative(z: Tensor) -> Tensor:
    """f'(z) = s (1 - s), at most 1/4; 1 - s(z) is computed as s(-z), without cancellation."""
    return sigmoid(z) * sigmoid(-z)


def tanh(z: Tensor) -> Tensor:
    """f(z) = (e^z - e^-z) / (e^z + e^-z), computed as sign(z) (1 - e^-2|z|) / (1 + e^-2|z|), which cannot overflow"""
    e = torch.expm1(-2 * z.abs())
    return -z.sign() * e / (2 + e)


def tanh_derivative(z: Tensor) -> Tensor:
    """f'(z) = 1 - tanh² z, at most 1"""
    return 1 - tanh(z) ** 2


def relu(z: Tensor) -> Tensor:
    """f(z) = max(0, z) (Nair & Hinton 2010)"""
    return z.clamp(min=0)


def relu_derivative(z: Tensor) -> Tensor:
    """f'(z) = 1 where z > 0, else 0; a unit whose z is never positive receives no gradient."""
    return (z > 0).to(z.dtype)


def leaky_relu(z: Tensor) -> Tensor:
    """f(z) = z where z > 0, else 0.01 z"""
    return torch.where(z > 0, z, LEAK * z)


def leaky_relu_derivative(z: Tensor) -> Tensor:
    """f'(z) = 1 where z > 0, else 0.01; a unit whose z is never positive still receives a gradient."""
    return torch.where(z > 0, torch.ones_like(z), LEAK)


def elu(z: Tensor) -> Tensor:
    """f(z) = z where z > 0, else e^z - 1 (Clevert et al. 2016)"""
    return torch.where(z > 0, z, torch.expm1(z.clamp(max=0)))


def elu_derivative(z: Tensor) -> Tensor:
    """f'(z) = 1 where z > 0, else e^z"""
    return torch.exp(z.clamp(max=0))


def selu(z: Tensor) -> Tensor:
    """f(z) = lambda z where z > 0, else lambda alpha (e^z - 1)"""
    return SELU_SCALE * torch.where(z > 0, z, SELU_ALPHA * torch.expm1(z.clamp(max=0)))


def selu_derivative(z: Tensor) -> Tensor:
    """f'(z) = lambda where z > 0, else lambda alpha e^z"""
    return SELU_SCALE * torch.where(z > 0, torch.ones_like(z), SELU_ALPHA * torch.exp(z.clamp(max=0)))


def softplus(z: Tensor) -> Tensor:
    """f(z) = log(1 + e^z), computed as max(z, 0) + log(1 + e^-|z|), which cannot overflow"""
    return z.clamp(min=0) + torch.log1p(torch.exp(-z.abs()))


def softplus_derivative(z: Tensor) -> Tensor:
    """f'(z) = s(z), the sigmoid"""
    return sigmoid(z)


def gelu(z: Tensor) -> Tensor:
    """f(z) = z Phi(z), with the standard normal distribution function Phi (Hendrycks & Gimpel 2016)"""
    return z * normal_cumulative(z)


def gelu_derivative(z: Tensor) -> Tensor:
    """f'(z) = Phi(z) + z phi(z), with the standard normal density phi"""
    return normal_cumulative(z) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def normal_cumulative(z: Tensor) -> Tensor:
    """Phi(z) = erfc(-z / sqrt(2)) / 2, the standard normal distribution function"""
    return torch.erfc(-z / math.sqrt(2)) / 2


def silu(z: Tensor) -> Tensor:
    """f(z) = z s(z) (Elfwing et al. 2018; also called swish)"""
    return z * sigmoid(z)


def silu_derivative(z: Tensor) -> Tensor:
    """f'(z) = s(z) (1 + z s(-z))"""
    return sigmoid(z) * (1 + z * sigmoid(-z))


@dataclass(frozen=True)
class Activation:
    """Activation function, its derivative, and PyTorch's implementation."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    library: Callable[[Tensor], Tensor]


ACTIVATIONS = {
    "step": Activation(step, step_derivative, lambda z: torch.heaviside(z, torch.ones_like(z)).detach() + 0 * z),
    "linear": Activation(linear, linear_derivative, torch.nn.Identity()),
    "sigmoid": Activation(sigmoid, sigmoid_derivative, torch.sigmoid),
    "tanh": Activation(tanh, tanh_derivative, torch.tanh),
    "relu": Activation(relu, relu_derivative, F.relu),
    "leaky-relu": Activation(leaky_relu, leaky_relu_derivative, F.leaky_relu),
    "elu": Activation(elu, elu_derivative, F.elu),
    "selu": Activation(selu, selu_derivative, F.selu),
    "softplus": Activation(softplus, softplus_derivative, F.softplus),
    "gelu": Activation(gelu, gelu_derivative, F.gelu),
    "silu": Activation(silu, silu_derivative, F.silu),
}


@dataclass(frozen=True)
class Config:
    """Range of the figure and of the comparison."""

    reach: float = 4.0
    """Largest input z; the smallest is its negative."""
    points: int = 801
    """Number of evenly spaced inputs."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "reach")
        require(self.points >= 2, "--points must be at least 2", self.points)


def library_derivative(activation: Activation, z: Tensor) -> Tensor:
    """Compute the derivative of PyTorch's function by autograd."""
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(activation.library(z).sum(), z)
    return slope


def train(config: Config) -> dict[str, float]:
    """Draw all functions and derivatives; return for each the largest difference from PyTorch."""
    z = torch.linspace(-config.reach, config.reach, config.points, dtype=torch.float64)
    card = DataCard("grid", True, sha256_of(z), f"{len(z)} values of z from {-config.reach:g} to {config.reach:g}")
    with Run.open(__name__, config, card, arithmetic="fp64") as run:
        distances = {}
        for name, activation in ACTIVATIONS.items():
            values = (activation.function(z) - activation.library(z)).abs().max()
            slopes = (activation.derivative(z) - library_derivative(activation, z)).abs().max()
            distances[name.replace("-", "_")] = float(max(values, slopes))
        run.figure("activations", draw(z))
        return run.finish(distance=distances)


def draw(z: Tensor) -> "Figure":
    """Draw one panel per activation function, with its derivative."""
    from common.drawing import plots

    panels = {
        name: {"f(z)": (z, activation.function(z)), "f'(z)": (z, activation.derivative(z))}
        for name, activation in ACTIVATIONS.items()
    }
    return plots.line_panels(panels, columns=4, xlabel="z", share_y=True, ylim=(-2, 4))
