"""Check of exercise 1: sum a gradient over broadcast dimensions."""

from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def broadcast_gradient(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Gradient of the broadcast operand by autograd."""
    operand = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad((g * operand).sum(), operand)
    return gradient


def sample_broadcast(generator: Random, size: int) -> Arguments:
    """Random gradient, and the shape of an operand that is broadcast to it."""
    result = [generator.randint(1, 3) for _ in range(min(size, 4))]
    shape = [1 if generator.random() < 0.4 else length for length in result[generator.randint(0, len(result)) :]]
    return {"g": integers(generator, *result), "shape": tuple(shape)}


BROADCASTING = Exercise(
    file="ex1_broadcasting",
    function="sum_to",
    reference=broadcast_gradient,
    cases=(
        Case({"g": vector(1, 2), "shape": (2,)}, "an operand that is not broadcast gets g itself"),
        Case({"g": vector(1, 2), "shape": ()}, "a scalar operand is used in every element"),
        Case({"g": torch.ones(2, 3).double(), "shape": (3,)}, "the operand lacks the first dimension"),
        Case({"g": torch.ones(2, 3).double(), "shape": (2, 1)}, "the operand has size 1: keep this dimension"),
        Case({"g": torch.ones(2, 2).double(), "shape": (1, 2)}, "the operand has size 1: keep this dimension"),
    ),
    sample=sample_broadcast,
    sample_note="an operand can lack dimensions and have dimensions of size 1 at the same time",
    hint=(
        "First sum over the g.ndim - len(shape) leading dimensions, which the operand lacks. Then sum over each "
        "dimension with size 1 in shape, with keepdim=True."
    ),
    mistakes={
        "you average over the broadcast dimensions; the gradients of all uses must be added": lambda g, shape: (
            broadcast_gradient(g, shape) / (g.numel() / max(1, torch.Size(shape).numel()))
        ),
        "you take the gradient of the first use only; the gradients of all uses must be added": lambda g, shape: g[
            tuple(0 for _ in range(g.ndim - len(shape)))
        ][tuple(slice(0, length) for length in shape) or (Ellipsis,)].clone(),
    },
)
