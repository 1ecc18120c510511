"""Check of exercise 6: top-p sampling."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import vector
from common.exercises.exercise import Arguments, Case, Exercise


def nucleus_by_list(p: Tensor, top_p: float) -> Tensor:
    """Expected probabilities, token by token."""
    values, kept = p.tolist(), [0.0] * len(p)
    for token in sorted(range(len(values)), key=lambda token: (-values[token], token)):
        kept[token] = values[token]
        if sum(kept) >= top_p:
            break
    return torch.tensor(kept, dtype=p.dtype) / sum(kept)


def wrong_nucleus(keep: Callable[[Tensor, Tensor, float], Tensor], *, divide: bool = True) -> Callable[..., Tensor]:
    """Make a wrong function from the sorted probabilities, their cumulative sum and top_p."""

    def wrong(p: Tensor, top_p: float) -> Tensor:
        ordered, index = p.sort(descending=True, stable=True)
        kept = ordered * keep(ordered, ordered.cumsum(0), top_p)
        return torch.zeros_like(p).index_copy(0, index, kept / kept.sum() if divide else kept)

    return wrong


def sample_probabilities(generator: Random, size: int) -> Arguments:
    """Random probabilities that are multiples of 1/16, so that their sums are exact."""
    cuts = sorted(generator.randint(0, 16) for _ in range(size - 1))
    shares = [end - start for start, end in pairwise([0, *cuts, 16])]
    return {"p": vector(*shares) / 16, "top_p": generator.randint(1, 16) / 16}


TOP_P = Exercise(
    file="ex6_top_p",
    function="nucleus",
    reference=nucleus_by_list,
    cases=(
        Case({"p": vector(1), "top_p": 0.5}, "the only token"),
        Case({"p": vector(0.75, 0.25), "top_p": 1.0}, "top_p = 1: all tokens"),
        Case({"p": vector(0.25, 0.75), "top_p": 0.5}, "the most probable token is enough"),
        Case({"p": vector(0.75, 0.25), "top_p": 0.75}, "exactly 0.75 is enough"),
        Case({"p": vector(0.5, 0.25, 0.25), "top_p": 0.625}, "0.5 is not enough; of equal tokens the first is taken"),
        Case({"p": vector(0.125, 0.375, 0.25, 0.25), "top_p": 0.5}, "two tokens, divided by their sum 0.625"),
    ),
    sample=sample_probabilities,
    hint=(
        "Sort with `p.sort(descending=True, stable=True)`. A token is in the set if the sum of those before it is "
        "below top_p."
    ),
    mistakes={
        "the token that reaches top_p belongs to the set": wrong_nucleus(
            lambda ordered, cumulative, top_p: (cumulative <= top_p) | (ordered.cumsum(0) == ordered)
        ),
        "the set is too large: if the tokens before already have top_p, it is complete": wrong_nucleus(
            lambda ordered, cumulative, top_p: cumulative - ordered <= top_p
        ),
        "top_p limits the sum of the probabilities, not each of them": wrong_nucleus(
            lambda ordered, cumulative, top_p: ordered >= top_p * ordered.max()  # noqa: ARG005
        ),
        "the kept probabilities must be divided by their sum": wrong_nucleus(
            lambda ordered, cumulative, top_p: cumulative - ordered < top_p, divide=False
        ),
    },
)
