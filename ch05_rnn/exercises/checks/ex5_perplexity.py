"""Check of exercise 5: find the bug: perplexity of sentences with padding."""

import math
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import boolean_matrix, integers, matrix
from common.exercises.exercise import Arguments, Case, Exercise


def perplexity_of_tokens(losses: Tensor, mask: Tensor) -> float:
    """Expected perplexity from a list of all tokens."""
    tokens = [loss for row, real in zip(losses.tolist(), mask.tolist(), strict=True) for loss in map_real(row, real)]
    return math.exp(sum(tokens) / len(tokens))


def map_real(row: list[float], real: list[bool]) -> list[float]:
    """Return the losses that are not padding."""
    return [loss for loss, is_real in zip(row, real, strict=True) if is_real]


def sample_sentences(generator: Random, size: int) -> Arguments:
    """Random losses of at most three sentences."""
    rows, steps = generator.randint(1, min(size, 3)), generator.randint(1, size)
    lengths = torch.tensor([generator.randint(1, steps) for _ in range(rows)])
    losses = integers(generator, rows, steps, low=0, high=3)
    return {"losses": losses, "mask": torch.arange(steps) < lengths[:, None]}


PERPLEXITY = Exercise(
    file="ex5_perplexity",
    function="perplexity",
    reference=perplexity_of_tokens,
    cases=(
        Case({"losses": matrix([0]), "mask": boolean_matrix([1])}, "a certain token has the perplexity 1"),
        Case({"losses": matrix([1, 3]), "mask": boolean_matrix([1, 1])}, "L = 2: exp(2)"),
        Case({"losses": matrix([1, 3]), "mask": boolean_matrix([1, 0])}, "padding does not count"),
        Case(
            {"losses": matrix([0, 0], [3, 9]), "mask": boolean_matrix([1, 1], [1, 0])},
            "three tokens: L = (0 + 0 + 3) / 3",
        ),
        Case(
            {"losses": matrix([1, 1], [1, 9]), "mask": boolean_matrix([1, 1], [1, 0])},
            "the padding does not count in N either",
        ),
    ),
    sample=sample_sentences,
    hint="Compute both results for one sentence of two tokens and one sentence of one token.",
    mistakes={
        "a token of a short sentence gets a larger weight: divide the sum of all losses once": lambda losses, mask: (
            float(((losses * mask).sum(1) / mask.sum(1)).mean().exp())
        ),
        "the padding is counted in N": lambda losses, mask: float((losses * mask).mean().exp()),
        "the padding's losses are counted": lambda losses, mask: float(losses.mean().exp()),  # noqa: ARG005
        "average the losses, not the perplexities": lambda losses, mask: float(losses[mask].exp().mean()),
    },
)
