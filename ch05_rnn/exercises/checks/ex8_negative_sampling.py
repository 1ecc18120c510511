"""Check of exercise 8: gradient of negative sampling."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, matrix, vector
from common.exercises.exercise import Arguments, Case, Exercise

Gradients = tuple[Tensor, Tensor, Tensor]


def gradients_by_autograd(v: Tensor, u: Tensor, negatives: Tensor) -> Gradients:
    """Expected gradients by autograd."""
    inputs = tuple(value.clone().requires_grad_() for value in (v, u, negatives))
    v, u, negatives = inputs
    loss = -F.logsigmoid(u @ v) - F.logsigmoid(-(negatives @ v)).sum()
    return torch.autograd.grad(loss, inputs)  # pyright: ignore[reportReturnType]


def word_vectors(v: list, u: list, negatives: list) -> Arguments:
    """Arguments of the gradients."""
    return {"v": vector(*v), "u": vector(*u), "negatives": matrix(*negatives)}


def sample_vectors(generator: Random, size: int) -> Arguments:
    """Random vectors of at most three features."""
    features = min(size, 3)
    both = {name: integers(generator, features) for name in ("v", "u")}
    return {**both, "negatives": integers(generator, generator.randint(1, 2), features)}


def wrong_gradients(near: Callable[[Tensor], Tensor], random: Callable[[Tensor], Tensor]) -> Callable[..., Gradients]:
    """Make a wrong function from the derivatives of both scores."""

    def wrong(v: Tensor, u: Tensor, negatives: Tensor) -> Gradients:
        one, others = near(u @ v), random(negatives @ v)
        return one * u + others @ negatives, one * v, others[:, None] * v

    return wrong


def near_only(v: Tensor, u: Tensor, negatives: Tensor) -> Gradients:
    """Typical mistake: v gets no gradient from the random words."""
    _, by_output, by_negatives = gradients_by_autograd(v, u, negatives)
    return (torch.sigmoid(u @ v) - 1) * u, by_output, by_negatives


NEGATIVE_SAMPLING = Exercise(
    file="ex8_negative_sampling",
    function="gradients",
    reference=gradients_by_autograd,
    results=("dL/dv", "dL/du", "dL/dn"),
    cases=(
        Case(word_vectors([0], [1], [[0]]), "score 0: the sigmoid is 1 / 2, and u pulls v"),
        Case(word_vectors([0], [0], [[1]]), "a random word pushes v away"),
        Case(word_vectors([1], [0], [[0]]), "u and n get multiples of v, with different signs"),
        Case(word_vectors([1, 0], [0, 1], [[1, 1], [0, 1]]), "the gradients of all random words are added in dL/dv"),
    ),
    sample=sample_vectors,
    hint=(
        "First differentiate with respect to the scores x = u v and x_k = n_k v. With d log s(x) / dx = 1 - s(x), what "
        "is d(-log s(-x)) / dx?"
    ),
    mistakes={
        "the sign is wrong: the gradient points to larger losses": lambda v, u, negatives: tuple(
            -gradient for gradient in gradients_by_autograd(v, u, negatives)
        ),
        "random words push v away: their scores have the derivative s(x), not s(x) - 1": wrong_gradients(
            lambda x: torch.sigmoid(x) - 1, lambda x: torch.sigmoid(x) - 1
        ),
        "v is in the scores of the random words as well": near_only,
    },
)
