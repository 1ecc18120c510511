"""Backpropagation through a multilayer perceptron by hand: the chain rule, one layer at a time.

With a_0 the input, layer l = 1 ... L computes

    z_l = a_(l-1) W_l^T + b_l,    a_l = f(z_l),    and the last layer's z_L are the logits.

Let d_l = dL/dz_l, one row per sample. Given d_L from the loss (Rumelhart, Hinton & Williams 1986):

    dL/dW_l = d_l^T a_(l-1)        input of the weight times the gradient in its output
    dL/db_l = sum over rows of d_l
    d_(l-1) = (d_l W_l) * f'(z_(l-1))

Dimensions: B batch, I inputs of a layer, O outputs of a layer.
"""

from dataclasses import dataclass

from torch import Tensor

from ch02_nn.activations import Activation

Layer = tuple[Tensor, Tensor]
"""Weight (O, I) and bias (O,) of a layer, as in nn.Linear."""


@dataclass(frozen=True)
class Trace:
    """Intermediate values of the forward pass, for the backward pass."""

    inputs: list[Tensor]
    """Inputs of the layers, (B, I): a_0 ... a_(L-1)."""
    sums: list[Tensor]
    """Pre-activations of the layers, (B, O): z_1 ... z_L; the last are the logits."""


def forward(layers: list[Layer], x: Tensor, activation: Activation) -> Trace:
    """(B, I) inputs -> a trace whose last sums are the (B, K) logits; raises ValueError for unsuitable shapes."""
    a, inputs, sums = x, [], []
    for number, (weight, bias) in enumerate(layers, start=1):
        if a.ndim != 2 or a.shape[1] != weight.shape[1]:
            raise ValueError(f"layer {number} takes (B, {weight.shape[1]}), got {tuple(a.shape)}")
        if a.dtype != weight.dtype:
            raise ValueError(f"layer {number} computes in {weight.dtype}, got {a.dtype}")
        z = a @ weight.mT + bias
        inputs.append(a)
        sums.append(z)
        a = activation.function(z)
    return Trace(inputs, sums)


def backward(layers: list[Layer], trace: Trace, d: Tensor, activation: Activation) -> list[Layer]:
    """(B, K) gradient of the loss in the logits -> gradients in every weight and bias"""
    if d.shape != trace.sums[-1].shape:
        raise ValueError(f"the logits are {tuple(trace.sums[-1].shape)}, their gradient {tuple(d.shape)}")
    gradients: list[Layer] = []
    for number in reversed(range(len(layers))):
        weight, _ = layers[number]
        gradients.append((d.mT @ trace.inputs[number], d.sum(dim=0)))  # dL/dW = d^T a, dL/db = sum d
        if number > 0:
            d = d @ weight * activation.derivative(trace.sums[number - 1])  # d_(l-1) = (d W) * f'(z)
    return gradients[::-1]
