"""Beam search: keep the K most probable beginnings of a text at every step.

A beginning y_1 ... y_t has the score log p(y_1 ... y_t), the sum of its steps. Each of K beginnings is extended by all
V tokens, and the K best of the KV extensions are kept. A beginning that has ended is kept as it is. With K = 1 this is
greedy decoding.

Dimensions: B batch, K beam width, V vocabulary size, T steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]
"""(BK,) previous tokens and state -> (BK, V) log-probabilities of the next token and state; dimension 0 of every tensor
of the state is BK"""


def beam_search(
    step: Step, state: tuple[Tensor, ...], *, width: int, start: int, end: int, pad: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """State of B texts, (B, ...) tensors -> (B, T) tokens of the best text, (B,) its log-probability

    The tokens after the end are `pad`. The search stops when the K best of every text have ended, at the latest after
    `max_length` steps.
    """
    batch, device = len(state[0]), state[0].device
    state = tuple(part.repeat_interleave(width, dim=0) for part in state)
    first = torch.arange(batch, device=device).unsqueeze(1) * width  # (B, 1) place of each text's beam in the batch
    token = torch.full((batch * width,), start, device=device)
    tokens = torch.empty(batch * width, 0, dtype=torch.int64, device=device)
    scores = torch.full((batch, width), -torch.inf, device=device)
    scores[:, 0] = 0  # the K beginnings are the same: count one
    ended = torch.zeros(batch, width, dtype=torch.bool, device=device)
    while tokens.shape[1] < max_length and not ended.all():
        log_p, state = step(token, state)
        log_p = log_p.view(batch, width, -1).clone()
        log_p[ended] = -torch.inf
        log_p[..., pad] = torch.where(ended, 0.0, -torch.inf)  # an ended text has one extension, of probability 1
        total = (scores.unsqueeze(2) + log_p).flatten(1)  # (B, KV)
        scores, best = total.topk(width, dim=1)
        parent = (first + best // log_p.shape[2]).flatten()  # (BK,) which beginning each extension continues
        token = (best % log_p.shape[2]).flatten()
        state = tuple(part[parent] for part in state)
        tokens = torch.cat([tokens[parent], token.unsqueeze(1)], dim=1)
        ended = ended.flatten()[parent].view(batch, width) | (token == end).view(batch, width)
    return tokens.view(batch, width, -1)[:, 0], scores[:, 0]
