"""Solution: the first query has the position S - T.

With T = S this is the mask of training. With T = 1 it is that of generation with a cache: the only query is the last
token, and attends to the last C keys.
"""

import torch
from torch import Tensor


def causal_mask(queries: int, keys: int, context: int) -> Tensor:
    """T queries, S >= T keys, context C -> (T, S) mask of booleans"""
    t = torch.arange(keys - queries, keys)[:, None]
    s = torch.arange(keys)
    return (s <= t) & (s > t - context)
