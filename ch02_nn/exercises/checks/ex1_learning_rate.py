"""Check of exercise 1: learning rate with which one step reaches the minimum."""

import math

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Case, Exercise


def inverse_second_derivative(x: Tensor) -> float:
    """1 / L'' by autograd: gradient descent on a quadratic function with this learning rate is Newton's method."""
    W = torch.zeros((), dtype=x.dtype, requires_grad=True)
    (slope,) = torch.autograd.grad((W * x).square().mean(), W, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, W)
    return 1 / curvature.item()


LEARNING_RATE = Exercise(
    file="ex1_learning_rate",
    function="best_learning_rate",
    reference=inverse_second_derivative,
    cases=(
        Case({"x": vector(1)}, "L = (W - y)^2 has the gradient 2 (W - y)"),
        Case({"x": vector(2)}, "for one sample r = 1 - 2 eta x^2"),
        Case({"x": vector(1, 1)}, "the loss is a mean: the same sample twice changes nothing"),
        Case({"x": vector(1, -1)}, "the sign of an input does not matter"),
        Case({"x": vector(1, 3)}, "the squares are averaged, not the inputs"),
    ),
    sample=lambda generator, size: {"x": integers(generator, size, low=1, high=4)},
    hint="Write dL/dW as a multiple of W - W*, where W* is the optimal weight. The second derivative of L contains it.",
    mistakes={
        "with this learning rate r is -1: the weight oscillates forever": lambda x: 2 * inverse_second_derivative(x),
        "the loss is a mean over the samples, not a sum": lambda x: inverse_second_derivative(x) / len(x),
        "the factor is the mean of the squares, not the square of the mean": lambda x: (
            float(0.5 / x.mean() ** 2) if x.mean() else math.inf
        ),
    },
)
