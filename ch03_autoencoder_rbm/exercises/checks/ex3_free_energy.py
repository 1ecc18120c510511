"""Check of exercise 3: free energy of an RBM."""

import itertools
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, matrix, vector
from common.exercises.exercise import Arguments, Case, Exercise


def machine(v: list, weight: list, a: list, b: list) -> Arguments:
    """Arguments of the free energy."""
    return {"v": matrix(*v), "weight": matrix(*weight), "a": vector(*a), "b": vector(*b)}


def free_energy_by_enumeration(v: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Expected free energies: the sum over all hidden states."""
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(b))), dtype=v.dtype)
    negative_energy = (v @ a)[:, None] + states @ b + v @ weight @ states.mT
    return -torch.logsumexp(negative_energy, 1)


def sample_machine(generator: Random, size: int) -> Arguments:
    """Random RBM with at most three units per layer."""
    visible, hidden = generator.randint(1, min(size, 3)), generator.randint(1, min(size, 3))
    return {
        "v": integers(generator, 2, visible, low=0, high=1),
        "weight": integers(generator, visible, hidden),
        "a": integers(generator, visible),
        "b": integers(generator, hidden),
    }


FREE_ENERGY = Exercise(
    file="ex3_free_energy",
    function="free_energy",
    reference=free_energy_by_enumeration,
    cases=(
        Case(machine([[0]], [[0]], [0], [0]), "the hidden unit has two states of energy 0: -log 2"),
        Case(machine([[1]], [[0]], [3], [0]), "the visible bias: -3 - log 2"),
        Case(machine([[0]], [[0]], [0], [2]), "the hidden bias: -log(1 + e^2)"),
        Case(machine([[1]], [[2]], [0], [0]), "the weight: -log(1 + e^2)"),
        Case(machine([[0]], [[0, 0]], [0], [0, 0]), "two hidden units have four states: -log 4"),
        Case(machine([[1], [0]], [[1]], [0], [0]), "one free energy for each row"),
        Case(machine([[1]], [[1000]], [0], [0]), "e^1000 overflows"),
    ),
    sample=sample_machine,
    hint="For one hidden unit with x = b + v W: which two terms has the sum over h? What is its logarithm?",
    mistakes={
        "e^x overflows: use `F.softplus`": lambda v, weight, a, b: -v @ a - (1 + (v @ weight + b).exp()).log().sum(1),
        "the visible biases are missing": lambda v, weight, a, b: -F.softplus(v @ weight + b).sum(1),  # noqa: ARG005
        "the sign is wrong: e^-F is the probability without Z": lambda v, weight, a, b: (
            v @ a + F.softplus(v @ weight + b).sum(1)
        ),
        "this is the energy of the most probable hidden state; the sum contains all of them": lambda v, weight, a, b: (
            -v @ a - (v @ weight + b).clamp_min(0).sum(1)
        ),
    },
)
