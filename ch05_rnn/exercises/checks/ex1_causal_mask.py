"""Check of exercise 1: causal attention mask."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.exercise import Arguments, Case, Exercise


def mask_by_definition(queries: int, keys: int, context: int) -> Tensor:
    """Expected mask, element by element."""
    rows = [[t - context < s <= t for s in range(keys)] for t in range(keys - queries, keys)]
    return torch.tensor(rows, dtype=torch.bool)


def wrong_mask(*, shift: bool = True, window: int = 0, own: int = 0, windowed: bool = True) -> Callable[..., Tensor]:
    """Make a wrong function: query positions from 0, another window, or without the token itself."""

    def wrong(queries: int, keys: int, context: int) -> Tensor:
        t = torch.arange(queries)[:, None] + (keys - queries if shift else 0)
        s = torch.arange(keys)
        return (s <= t - own) & ((s > t - context - window) | (not windowed))

    return wrong


def sample_mask(generator: Random, size: int) -> Arguments:
    """Random numbers of queries and keys, and a random context."""
    keys = generator.randint(1, size + 1)
    return {"queries": generator.randint(1, keys), "keys": keys, "context": generator.randint(1, size + 1)}


CAUSAL_MASK = Exercise(
    file="ex1_causal_mask",
    function="causal_mask",
    reference=mask_by_definition,
    cases=(
        Case({"queries": 1, "keys": 1, "context": 1}, "a token attends to itself"),
        Case({"queries": 2, "keys": 2, "context": 2}, "the first token must not read the second"),
        Case({"queries": 1, "keys": 2, "context": 2}, "the only query is the last token: it attends to both keys"),
        Case({"queries": 2, "keys": 2, "context": 1}, "with C = 1 a token attends to itself only"),
        Case({"queries": 1, "keys": 3, "context": 1}, "with C = 1 a token attends to itself only"),
        Case({"queries": 1, "keys": 3, "context": 2}, "with C = 2 a token attends to itself and the one before"),
    ),
    sample=sample_mask,
    hint=(
        "Make a column of the query positions and a row of the key positions with `torch.arange`, and compare them. "
        "The queries are the last T of S tokens."
    ),
    mistakes={
        "the queries are the last T tokens, so the first query has the position S - T": wrong_mask(shift=False),
        "the window is too long by one token: s > t - C": wrong_mask(window=1),
        "a token attends to itself, too: s <= t": wrong_mask(own=1),
        "the context C limits how far a query looks back": wrong_mask(windowed=False),
    },
)
