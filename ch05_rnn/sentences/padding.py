"""Padding and packing: texts of different lengths in one batch.

With plain padding, the final state of a recurrent network depends on the longest text of the batch. A packed batch has
no padding: step t processes only the texts with more than t tokens, and the final state of each text is that after its
own last token, in both directions.

Dimensions: N texts, B batch, T length of the longest text, E embedding size, H hidden units per direction.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from common import distributed

PAD = 0
"""Index of the padding token, the first of every vocabulary here."""

POOL = 50
"""Number of batches that are sorted by length together: little padding, but batches differ between epochs."""


class LSTMOutput(NamedTuple):
    """Output of a bidirectional LSTM."""

    states: Tensor
    """(B, T, 2H) hidden states of both directions, zero at padding"""
    hidden: Tensor
    """(B, 2H) final hidden state of each direction: after the last token, and after the first"""
    cell: Tensor
    """(B, 2H) final cell state of each direction"""


def pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """N rows of tokens -> (N, T) int32, padded with PAD, and (N,) int64 lengths"""
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=PAD).int(), lengths


def run_packed(lstm: nn.LSTM, features: Tensor, lengths: Tensor) -> LSTMOutput:
    """Run a bidirectional layer over (B, T, E) features as a packed batch; the (B,) lengths are on the CPU."""
    packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    states, (hidden, cell) = lstm(packed)
    states, _ = pad_packed_sequence(states, batch_first=True, total_length=features.shape[1])
    return LSTMOutput(states, torch.cat([*hidden], dim=1), torch.cat([*cell], dim=1))


def batch_count(texts: int, batch_size: int) -> int:
    """Return the number of batches per epoch, without a last batch with fewer texts than processes."""
    full, remainder = divmod(texts, batch_size)
    return full + (remainder >= distributed.world_size())


def batches_by_length(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """(N,) lengths -> index tensors of the batches of a shuffled epoch, texts of similar length together"""
    order = torch.randperm(len(lengths), generator=generator)
    batches: list[Tensor] = []
    for pool in order[: batch_count(len(order), batch_size) * batch_size].split(POOL * batch_size):
        batches += pool[lengths[pool].argsort()].split(batch_size)
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]
