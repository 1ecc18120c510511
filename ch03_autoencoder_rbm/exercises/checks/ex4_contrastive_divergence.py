"""Check of exercise 4: one step of contrastive divergence."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from ch03_autoencoder_rbm.exercises.checks.ex3_free_energy import machine, sample_machine
from common.exercises.arguments import integers, matrix
from common.exercises.exercise import Arguments, Case, Exercise


def divergence_by_loops(v: Tensor, weight: Tensor, a: Tensor, b: Tensor, u_h: Tensor, u_v: Tensor) -> Tensor:
    """Expected gradient, sample by sample, as a difference of outer products."""
    total = torch.zeros_like(weight)
    for row, noise_h, noise_v in zip(v, u_h, u_v, strict=True):
        p = 1 / (1 + torch.exp(-(b + weight.mT @ row)))
        h = torch.where(noise_h < p, 1.0, 0.0).double()
        sampled = torch.where(noise_v < 1 / (1 + torch.exp(-(a + weight @ h))), 1.0, 0.0).double()
        last = 1 / (1 + torch.exp(-(b + weight.mT @ sampled)))
        total += torch.outer(row, p) - torch.outer(sampled, last)
    return total / len(v)


def wrong_divergence(
    *, sample_h: bool = True, sample_v: bool = True, states: bool = False, last: bool = False, averaged: bool = True
) -> Callable[..., Tensor]:
    """Make a wrong function."""

    def wrong(v: Tensor, weight: Tensor, a: Tensor, b: Tensor, u_h: Tensor, u_v: Tensor) -> Tensor:
        p = torch.sigmoid(b + v @ weight)
        h = (u_h < p).to(v.dtype)
        q = torch.sigmoid(a + (h if sample_h else p) @ weight.mT)
        sampled = (u_v < q).to(v.dtype) if sample_v else q
        second = p if last else torch.sigmoid(b + sampled @ weight)
        total = v.mT @ (h if states else p) - sampled.mT @ second
        return total / len(v) if averaged else total

    return wrong


def chain(v: list, weight: list, a: list, b: list, u_h: list, u_v: list) -> Arguments:
    """Arguments of contrastive divergence."""
    return {**machine(v, weight, a, b), "u_h": matrix(*u_h), "u_v": matrix(*u_v)}


def sample_chain(generator: Random, size: int) -> Arguments:
    """Random RBM and random numbers."""
    given = sample_machine(generator, size)
    rows, visible, hidden = len(given["v"]), len(given["a"]), len(given["b"])
    noise = {"u_h": integers(generator, rows, hidden, low=1, high=19) / 20}
    return {**given, **noise, "u_v": integers(generator, rows, visible, low=1, high=19) / 20}


CONTRASTIVE_DIVERGENCE = Exercise(
    file="ex4_contrastive_divergence",
    function="contrastive_divergence",
    reference=divergence_by_loops,
    cases=(
        Case(chain([[1]], [[0]], [0], [0], [[0.4]], [[0.4]]), "v' = v and p' = p: no gradient"),
        Case(chain([[1]], [[0]], [0], [0], [[0.4]], [[0.6]]), "v' = 0, because u_v is not below 0.5: dW = v p = 0.5"),
        Case(chain([[0]], [[0]], [0], [0], [[0.4]], [[0.4]]), "v = 0 and v' = 1: dW = -v' p' = -0.5"),
        Case(chain([[1]], [[1]], [0], [0], [[0.8]], [[0.7]]), "h = 0, so s(a + h W) = 0.5 and v' = 0"),
        Case(chain([[0]], [[2]], [0], [0], [[0.4]], [[0.4]]), "p' belongs to v' = 1: s(2) = 0.88, not s(0)"),
        Case(chain([[1], [1]], [[0]], [0], [0], [[0.4], [0.4]], [[0.6], [0.6]]), "the mean over the batch"),
    ),
    sample=sample_chain,
    hint=(
        "Write the five lines of the task with matrix products. (u < p) is a tensor of booleans; `.to(v.dtype)` makes "
        "numbers of it. v.mT @ p is the sum of the outer products of the rows."
    ),
    mistakes={
        "the chain continues from the states h, not from the probabilities p": wrong_divergence(sample_h=False),
        "v' are states, not probabilities": wrong_divergence(sample_v=False),
        "the statistics contain the probabilities p, not the states h": wrong_divergence(states=True),
        "p' are the probabilities given v', not given v": wrong_divergence(last=True),
        "the gradient is a mean over the batch": wrong_divergence(averaged=False),
    },
)
