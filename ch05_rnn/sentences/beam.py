"""Beam search: continue the K most probable beginnings of a text at every step, with length normalisation.

A beginning y_1 ... y_t has the log-probability log p(y_1) + ... + log p(y_t | y_1 ... y_{t-1}). Each of the K
beginnings is extended by all V tokens, and the K most probable of the KV extensions are kept. Those that have ended are
complete texts; the others are extended again. With K = 1 this is greedy decoding.

Every token lowers the log-probability, so the most probable text is often too short. Complete texts are therefore
compared by

    score(y) = log p(y) / T^a

with the length T, end token included, and the length penalty a: 0 compares log-probabilities, 1 their mean per token.

Dimensions: B batch, K beam width, V vocabulary size, T steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]
"""(BK,) previous tokens and state -> (BK, V) log-probabilities of the next token and state; dimension 0 of every tensor
of the state is BK"""


def beam_search(
    step: Step,
    state: tuple[Tensor, ...],
    *,
    width: int,
    start: int,
    end: int,
    pad: int,
    max_length: int,
    length_penalty: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """State of B texts, (B, ...) tensors -> (B, T) tokens of the text with the highest score, (B,) its score

    The tokens after the end are `pad`. Texts of `max_length` tokens are complete without an end token. The search of a
    text stops when no beginning can get a higher score than the best complete text.
    """
    batch, device = len(state[0]), state[0].device
    state = tuple(part.repeat_interleave(width, dim=0) for part in state)
    first = torch.arange(batch, device=device).unsqueeze(1) * width  # (B, 1) place of each text's beam in the batch
    token = torch.full((batch * width,), start, device=device)
    tokens = torch.full((batch, width, max_length), pad, device=device)
    log_p = torch.full((batch, width), -torch.inf, device=device)
    log_p[:, 0] = 0  # the K beginnings are the same: count one
    best = torch.full((batch,), -torch.inf, device=device)
    best_tokens = torch.full((batch, max_length), pad, device=device)
    length = 0
    while length < max_length and bool((log_p > -torch.inf).any()):
        length += 1
        extension, state = step(token, state)
        total = log_p.unsqueeze(2) + extension.view(batch, width, -1)
        total[..., pad] = -torch.inf
        log_p, place = total.flatten(1).topk(width, dim=1)  # (B, K) of KV
        parent = (first + place // total.shape[2]).flatten()  # (BK,) which beginning each extension continues
        token = (place % total.shape[2]).flatten()
        state = tuple(part[parent] for part in state)
        tokens = tokens.flatten(0, 1)[parent].view(batch, width, max_length)
        tokens[:, :, length - 1] = token.view(batch, width)

        complete = (token == end).view(batch, width) | (length == max_length)
        score, winner = (log_p / length**length_penalty).masked_fill(~complete, -torch.inf).max(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        best_tokens[better] = tokens[torch.arange(batch, device=device), winner][better]
        # A beginning can at best keep its log-probability until the maximum length.
        hopeless = log_p / max_length**length_penalty <= best.unsqueeze(1)
        log_p = log_p.masked_fill(complete | hopeless, -torch.inf)
    longest = int((best_tokens != pad).sum(dim=1).amax())
    return best_tokens[:, :longest], best
