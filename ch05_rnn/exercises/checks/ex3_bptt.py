"""Check of exercise 3: backpropagation through time."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import integers, matrix
from common.exercises.exercise import Arguments, Case, Exercise


def backward_by_autograd(h: Tensor, weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Expected gradients: run the network again with the inputs that lead to these states."""
    before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
    u = (torch.atanh(h) - before @ weight.mT).requires_grad_()
    weight = weight.clone().requires_grad_()
    state, states = torch.zeros_like(h[0]), []
    for row in u:
        state = torch.tanh(row + weight @ state)
        states.append(state)
    by_input, by_weight = torch.autograd.grad((torch.stack(states) * delta).sum(), (u, weight), materialize_grads=True)
    return by_input, by_weight


def recurrent(h: list, weight: list, delta: list) -> Arguments:
    """Arguments of the backward pass."""
    return {"h": matrix(*h), "weight": matrix(*weight), "delta": matrix(*delta)}


def sample_recurrent(generator: Random, size: int) -> Arguments:
    """Random states of at most two units."""
    steps, units = generator.randint(1, min(size, 3)), generator.randint(1, min(size, 2))
    h = integers(generator, steps, units, low=-1, high=1) / 2
    return {"h": h, "weight": integers(generator, units, units), "delta": integers(generator, steps, units)}


def wrong_backward(
    *, recursion: bool = True, transposed: bool = True, slope: int = 2, previous: bool = True
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make a wrong function."""

    def wrong(h: Tensor, weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        da, following = torch.zeros_like(h), torch.zeros_like(h[0])
        for t in reversed(range(len(h))):
            through = (weight.mT if transposed else weight) @ following
            following = (delta[t] + through * recursion) * (1 - h[t] ** slope)
            da[t] = following
        return da, da[1:].mT @ h[:-1] if previous else da.mT @ h

    return wrong


BPTT = Exercise(
    file="ex3_bptt",
    function="backward",
    reference=backward_by_autograd,
    results=("da", "dW"),
    cases=(
        Case(recurrent([[0]], [[1]], [[1]]), "one step with h = 0: the derivative of tanh is 1"),
        Case(recurrent([[0.5]], [[1]], [[1]]), "h = 0.5: the derivative of tanh is 1 - h^2 = 0.75"),
        Case(recurrent([[0], [0]], [[2]], [[0], [1]]), "the gradient of the second step reaches the first through W"),
        Case(recurrent([[0.5], [0]], [[0]], [[0], [1]]), "dW contains da_2 h_1; h_0 is 0"),
        Case(recurrent([[0, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 0]]), "a_1 contains the second state: use W^T"),
    ),
    sample=sample_recurrent,
    hint=(
        "Go through the steps from the last to the first and keep da of the following step in a variable, at first 0. "
        "The derivative of tanh(a) is 1 - tanh(a)^2."
    ),
    mistakes={
        "the gradient through the next step is missing": wrong_backward(recursion=False),
        "a_(t+1) contains W h_t, so its gradient goes back through W^T": wrong_backward(transposed=False),
        "the derivative of tanh is 1 - h^2": wrong_backward(slope=1),
        "W is multiplied with the previous state: dW contains h_(t-1), and h_0 = 0": wrong_backward(previous=False),
    },
)
