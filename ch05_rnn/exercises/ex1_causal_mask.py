"""Causal attention mask (10 minutes)

A language model reads S tokens at the positions 0, 1, ..., S - 1. The keys of all of them are in the cache, the queries
only of the last T. A query at position t attends to the keys at the positions s with

    t - C < s <= t.

It must not read the tokens after it, and the context C limits how far it looks back. Return the mask: True where a
query attends to a key.

Check: python -m ch05_rnn.exercises 1
"""

from torch import Tensor


def causal_mask(queries: int, keys: int, context: int) -> Tensor:
    """T queries, S >= T keys, context C -> (T, S) mask of booleans"""
    raise NotImplementedError
