"""Check of exercise 6: memory of the activations."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import torch
from torch import Tensor, nn

from common.exercises.exercise import Arguments, Case, Exercise

DTYPES = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}
"""Dtype of the numbers with 2, 4 and 8 bytes."""


def bytes_of_autograd(sizes: list[int], batch: int, size: int) -> int:
    """Run the network, and add the bytes of the different tensors that autograd keeps, without the parameters."""
    pairs = pairwise(sizes)
    layers: list[nn.Module] = [layer for inputs, outputs in pairs for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
    network = nn.Sequential(*layers[:-1]).to(DTYPES[size])
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}
    alive = []  # a freed tensor's address could be used again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.ones(batch, sizes[0], dtype=DTYPES[size]))
    return sum(kept.values())


def weights(sizes: list[int]) -> int:
    """Count the weights."""
    return sum(inputs * outputs for inputs, outputs in pairwise(sizes))


def network(sizes: list[int], batch: int = 1, size: int = 4) -> Arguments:
    """Arguments of the function."""
    return {"sizes": sizes, "batch": batch, "size": size}


def counting(count: Callable[[list[int]], int]) -> Callable[..., int]:
    """Make a wrong function that counts other numbers per sample."""
    return lambda sizes, batch, size: batch * size * count(sizes)


def sample_network(generator: Random, size: int) -> Arguments:
    """Random sizes of at most four layers."""
    sizes = [generator.randint(1, 6) for _ in range(min(size, 4) + 1)]
    return network(sizes, batch=generator.randint(1, 5), size=generator.choice([2, 4, 8]))


ACTIVATIONS = Exercise(
    file="ex6_activations",
    function="activation_bytes",
    reference=bytes_of_autograd,
    cases=(
        Case(network([1, 1], size=2), "one linear layer keeps its input"),
        Case(network([3, 2]), "three inputs of four bytes; the output is not kept"),
        Case(network([3, 2], batch=5), "the inputs of all samples"),
        Case(network([3, 2, 1]), "the output of the ReLU is the input of the second layer: kept once"),
        Case(network([1, 2, 4, 8], batch=2, size=8), "1 + 2 + 4 numbers per sample"),
    ),
    sample=sample_network,
    hint="Write down the kept tensors for sizes 3, 2, 1 in order. Which of them are the same tensor?",
    mistakes={
        "the output of the last layer is not kept: no gradient needs it": counting(sum),
        "the output of a ReLU is the input of the next layer: one tensor, kept once": counting(
            lambda sizes: sizes[0] + 2 * sum(sizes[1:-1])
        ),
        "the first layer keeps its input as well": counting(lambda sizes: sum(sizes[1:-1])),
        "weights do not count": lambda sizes, batch, size: size * (batch * sum(sizes[:-1]) + weights(sizes)),
        "a number has `size` bytes": lambda sizes, batch, size: batch * sum(sizes[:-1]),  # noqa: ARG005
        "every sample has activations of its own": lambda sizes, batch, size: size * sum(sizes[:-1]),  # noqa: ARG005
    },
)
