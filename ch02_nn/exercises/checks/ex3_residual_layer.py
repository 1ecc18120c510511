"""Check of exercise 3: backpropagation through a residual layer."""

from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers
from common.exercises.exercise import Arguments, Case, Exercise

Gradients = tuple[Tensor, Tensor, Tensor]


def residual_gradients(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Gradients with respect to weight, bias and input by autograd."""
    x, weight, bias = (value.clone().requires_grad_() for value in (x, weight, bias))
    h = x + torch.relu(x @ weight.mT + bias)
    return torch.autograd.grad(h, (weight, bias, x), d)  # pyright: ignore[reportReturnType]


def residual(x: list, weight: list, bias: list, d: list) -> Arguments:
    """Arguments of the backward pass."""
    values = {"x": x, "weight": weight, "bias": bias, "d": d}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def sample_residual(generator: Random, size: int) -> Arguments:
    """Random layer of at most three units, and a batch of at most three rows."""
    units, rows = generator.randint(1, min(size, 3)), generator.randint(1, min(size, 3))
    shapes = {"x": (rows, units), "weight": (units, units), "bias": (units,), "d": (rows, units)}
    return {name: integers(generator, *shape, low=-2, high=2) for name, shape in shapes.items()}


def without_skip(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Typical mistake: no gradient through the skip connection."""
    by_weight, by_bias, by_input = residual_gradients(x, weight, bias, d)
    return by_weight, by_bias, by_input - d


def without_relu(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:  # noqa: ARG001
    """Typical mistake: no derivative of ReLU."""
    return d.mT @ x, d.sum(0), d + d @ weight


def masked_by_output(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Typical mistake: derivative of ReLU by the sign of h instead of z."""
    dz = d * (x + torch.relu(x @ weight.mT + bias) > 0)
    return dz.mT @ x, dz.sum(0), d + dz @ weight


def transposed(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Typical mistake: the weight is transposed in the backward pass."""
    dz = d * (x @ weight.mT + bias > 0)
    return dz.mT @ x, dz.sum(0), d + dz @ weight.mT


RESIDUAL_LAYER = Exercise(
    file="ex3_residual_layer",
    function="residual_backward",
    reference=residual_gradients,
    results=("dL/dW", "dL/db", "dL/dx"),
    cases=(
        Case(residual([[1]], [[0]], [1], [[1]]), "h = x + 1: the layer itself does not depend on x"),
        Case(residual([[1]], [[1]], [0], [[1]]), "h = 2 x, because z = x is positive"),
        Case(residual([[1]], [[-1]], [0], [[1]]), "z = -1: ReLU passes no gradient"),
        Case(residual([[1]], [[0]], [0], [[1]]), "z = 0: the derivative of ReLU is 0 there"),
        Case(residual([[-2]], [[0]], [1], [[1]]), "z = 1 is positive, although h = -1 is not"),
        Case(residual([[1], [2]], [[1]], [0], [[1], [1]]), "the gradients of two rows are added in dL/dW and dL/db"),
        Case(residual([[1, 2]], [[1, 3], [0, 1]], [0, 0], [[1, 0]]), "z_1 = x_1 + 3 x_2, so x_2 gets 3 d_1"),
    ),
    sample=sample_residual,
    hint=(
        "First compute dz, the gradient with respect to z: d where z > 0, else 0. dL/dW and dL/db are those of a "
        "linear layer. x is used twice: add the gradients of both uses."
    ),
    mistakes={
        "x is used twice: the gradient through the skip connection is missing": without_skip,
        "the derivative of ReLU is missing": without_relu,
        "the derivative of ReLU depends on the sign of z, not on that of h": masked_by_output,
        "z = x W^T, so the gradient of x is dz W, not dz W^T": transposed,
    },
)
