"""Backpropagation through a multilayer perceptron by hand.

Let a_0 be the input. Layer l = 1 ... L computes

    z_l = a_(l-1) W_l^T + b_l,    a_l = f(z_l).

The z_L of the last layer are the logits. Let d_l = dL/dz_l, with one row per sample. The loss gives d_L, and the chain
rule gives (Rumelhart, Hinton & Williams 1986)

    dL/dW_l = d_l^T a_(l-1)
    dL/db_l = sum of the rows of d_l
    d_(l-1) = (d_l W_l) * f'(z_(l-1))

Dimensions: B batch, I inputs of a layer, O outputs of a layer, K classes.
"""

from dataclasses import dataclass

from torch import Tensor

from ch02_nn.activations import Activation

Layer = tuple[Tensor, Tensor]
"""Weight (O, I) and bias (O,) of a layer, as in nn.Linear."""


@dataclass(frozen=True)
class Trace:
    """Values of the forward pass that the backward pass needs."""

    inputs: list[Tensor]
    """Inputs a_0 ... a_(L-1) of the layers, (B, I)."""
    pre_activations: list[Tensor]
    """Pre-activations z_1 ... z_L of the layers, (B, O); the last are the logits."""


def forward(layers: list[Layer], x: Tensor, activation: Activation) -> Trace:
    """(B, I) inputs -> trace of the forward pass; raises ValueError for a wrong shape or dtype."""
    a, inputs, pre_activations = x, [], []
    for number, (weight, bias) in enumerate(layers, start=1):
        if a.ndim != 2 or a.shape[1] != weight.shape[1]:
            raise ValueError(f"layer {number} needs inputs of shape (B, {weight.shape[1]}), got {tuple(a.shape)}")
        if a.dtype != weight.dtype:
            raise ValueError(f"layer {number} needs inputs of dtype {weight.dtype}, got {a.dtype}")
        z = a @ weight.mT + bias
        inputs.append(a)
        pre_activations.append(z)
        a = activation.function(z)
    return Trace(inputs, pre_activations)


def backward(layers: list[Layer], trace: Trace, d: Tensor, activation: Activation) -> list[Layer]:
    """(B, K) gradient of the loss with respect to the logits -> gradients with respect to weights and biases"""
    logits = trace.pre_activations[-1]
    if d.shape != logits.shape:
        raise ValueError(f"the gradient must have the shape of the logits, {tuple(logits.shape)}, got {tuple(d.shape)}")
    gradients: list[Layer] = []
    for number in reversed(range(len(layers))):
        weight, _ = layers[number]
        gradients.append((d.mT @ trace.inputs[number], d.sum(dim=0)))  # dL/dW = d^T a, dL/db = sum of rows of d
        if number > 0:
            d = d @ weight * activation.derivative(trace.pre_activations[number - 1])  # d_(l-1) = (d W) * f'(z)
    return gradients[::-1]
