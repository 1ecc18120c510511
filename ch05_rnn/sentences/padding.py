"""Texts of different lengths in one batch: padded to the longest, and read without the padding.

A recurrent network that reads on into the padding ends in a state that depends on the batch's longest text. A packed
batch has no padding: at step t it holds only the texts that are still going on, and each text's last state is that
after its own last symbol, in both directions.

Dimensions: N texts, B batch, T steps of the longest text, E features of a symbol, H hidden features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from common import distributed

PAD = 0
"""Number of the symbol that fills the shorter rows: the first of every vocabulary here."""

POOL = 50
"""Batches whose texts are sorted by length together: little padding, yet the company of a text changes."""


class Reading(NamedTuple):
    """What a bidirectional LSTM makes of a batch."""

    states: Tensor
    """(B, T, 2H) states of both directions at each step, zero at the padding"""
    hidden: Tensor
    """(B, 2H) last hidden state of each direction: after the last symbol, and after the first"""
    cell: Tensor
    """(B, 2H) last cell state of each direction"""


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """N rows of symbols -> (N, T) int32, filled up with PAD, and (N,) int64 their lengths"""
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=PAD).int(), lengths


def read(lstm: nn.LSTM, features: Tensor, lengths: Tensor) -> Reading:
    """Run one bidirectional layer over (B, T, E) features, each row as long as its (B,) length on the CPU."""
    packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    states, (hidden, cell) = lstm(packed)
    states, _ = pad_packed_sequence(states, batch_first=True, total_length=features.shape[1])
    return Reading(states, torch.cat([*hidden], dim=1), torch.cat([*cell], dim=1))


def batch_count(texts: int, batch_size: int) -> int:
    """Count the batches of a pass; a last one with fewer texts than there are processes is left out."""
    full, rest = divmod(texts, batch_size)
    return full + (rest >= distributed.world_size())


def batches_by_length(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """(N,) lengths -> index tensors of a shuffled pass, in which texts of about the same length go together"""
    order = torch.randperm(len(lengths), generator=generator)
    batches: list[Tensor] = []
    for pool in order[: batch_count(len(order), batch_size) * batch_size].split(POOL * batch_size):
        batches += pool[lengths[pool].argsort()].split(batch_size)
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]
