"""Check of exercise 2: find the bug: attention with a mask."""

import math
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import boolean_matrix, integers, matrix
from common.exercises.exercise import Arguments, Case, Exercise


def attention_of_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Expected outputs by PyTorch's function."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask[None])[0]


def attended(q: list, k: list, v: list, mask: list) -> Arguments:
    """Arguments of attention."""
    return {"q": matrix(*q), "k": matrix(*k), "v": matrix(*v), "mask": boolean_matrix(*mask)}


def sample_attended(generator: Random, size: int) -> Arguments:
    """Random queries, keys and values, and a causal mask."""
    steps, features = generator.randint(1, min(size, 3)), generator.randint(1, 2)
    values = {name: integers(generator, steps, features, low=-2, high=2) for name in ("q", "k", "v")}
    return {**values, "mask": torch.ones(steps, steps, dtype=torch.bool).tril()}


def masked_afterwards(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Typical mistake: the mask after the softmax."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[1]), 1) * mask @ v


def zero_scores(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Typical mistake: a score of 0 instead of minus infinity."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[1]) * mask, 1) @ v


def unscaled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Typical mistake: without the root of D."""
    return torch.softmax((q @ k.mT).masked_fill(~mask, -math.inf), 1) @ v


def unmasked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001  # the signature of the exercise
    """Typical mistake: no mask."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[1]), 1) @ v


ATTENTION = Exercise(
    file="ex2_attention",
    function="attention",
    reference=attention_of_torch,
    cases=(
        Case(attended([[1]], [[1]], [[4]], [[1]]), "one key has the weight 1"),
        Case(attended([[0]], [[1], [2]], [[2], [4]], [[1, 1]]), "equal scores: the mean of both values"),
        Case(attended([[0]], [[1], [2]], [[2], [4]], [[1, 0]]), "the weight of the only attended key is 1"),
        Case(
            attended([[1]], [[0], [1]], [[2], [4]], [[1, 0]]), "the score of a key that is not attended does not matter"
        ),
        Case(attended([[2, 0]], [[0, 1], [2, 1]], [[0, 2], [1, 0]], [[1, 1]]), "the scores are divided by sqrt(D)"),
    ),
    sample=sample_attended,
    hint="Print the sums of the rows of the weights. What must a score be, so that its exponential is 0?",
    mistakes={
        "the weights of the attended keys do not add up to 1: mask the scores before the softmax": masked_afterwards,
        "a score of 0 still has the exponential 1; minus infinity has 0": zero_scores,
        "the scores must be divided by sqrt(D)": unscaled,
        "the mask is not used": unmasked,
    },
)
