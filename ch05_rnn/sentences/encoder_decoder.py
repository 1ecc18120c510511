"""Encoder and decoder: one recurrent network reads a text, another writes its answer.

Dimensions: B batch, S symbols of a source, T symbols of a target, H hidden features, V symbols known.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ch05_rnn.sentences.attention import AdditiveAttention, DotAttention
from ch05_rnn.sentences.padding import PAD, read

START, END = 2, 3
"""Numbers of the symbols that begin and end every target."""


def make_attention(kind: str, hidden_size: int) -> nn.Module | None:
    """Make attention by name: none, additive or dot."""
    if kind == "additive":
        return AdditiveAttention(hidden_size, hidden_size // 2)
    return DotAttention() if kind == "dot" else None


class Memory(NamedTuple):
    """What the decoder gets from the encoder."""

    states: Tensor
    """(B, S, H)"""
    last: tuple[Tensor, Tensor]
    """(1, B, H) hidden and cell state in which the decoder starts"""
    real: Tensor
    """(B, S) False at the padding"""


class Seq2Seq(nn.Module):
    """A bidirectional LSTM that reads, an LSTM that writes, and attention between them.

    The context c_t meets the decoder's state q_t after its step (Luong, Pham & Manning 2015, equation 5), so all steps
    of a known target are one call:  p(y_t) = softmax(W_y tanh(W_c [c_t; q_t])). Without attention c_t is the encoder's
    last state at every step (Cho et al. 2014): the network has the weights of dot-product attention, and the
    same way to the source.
    """

    def __init__(
        self, source_symbols: int, target_symbols: int, *, attention: str, embedding_size: int, hidden_size: int
    ) -> None:
        super().__init__()
        half = hidden_size // 2
        self.source_embedding = nn.Embedding(source_symbols, embedding_size, padding_idx=PAD)
        self.target_embedding = nn.Embedding(target_symbols, embedding_size, padding_idx=PAD)
        self.encoder = nn.LSTM(embedding_size, half, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.attention = make_attention(attention, hidden_size)
        self.combine = nn.Linear(2 * hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, target_symbols)

    def encode(self, sources: Tensor, lengths: Tensor) -> Memory:
        """(B, S) sources with (B,) lengths -> what the decoder may know of them"""
        reading = read(self.encoder, self.source_embedding(sources), lengths)
        last = reading.hidden.unsqueeze(0), reading.cell.unsqueeze(0)
        return Memory(reading.states, last, sources != PAD)

    def decode(
        self, tokens: Tensor, state: tuple[Tensor, Tensor], memory: Memory
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None]:
        """(B, T) previous symbols -> (B, T, V) logits of the next ones, the state after them, (B, T, S) weights"""
        queries, state = self.decoder(self.target_embedding(tokens), state)
        if self.attention is None:
            context, weights = memory.last[0].transpose(0, 1).expand_as(queries), None
        else:
            context, weights = self.attention(queries, memory.states, memory.real)
        combined = torch.tanh(self.combine(torch.cat([context, queries], dim=2)))
        return self.output(combined), state, weights

    def forward(self, sources: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        """(B, S) sources, (B,) lengths, (B, T) previous symbols of the targets -> (B, T, V) logits"""
        memory = self.encode(sources, lengths)
        return self.decode(tokens, memory.last, memory)[0]

    @torch.inference_mode()
    def greedy(self, sources: Tensor, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor | None]:
        """(B, S) sources, (B,) lengths -> (B, T) the likeliest symbol at each step, (B, T, S) attention's weights

        Ends once every text has ended, at the latest after the longest number of symbols.
        """
        memory = self.encode(sources, lengths)
        state, token = memory.last, torch.full((len(sources), 1), START, device=sources.device)
        written, looks, ended = [], [], torch.zeros_like(token, dtype=torch.bool)
        while len(written) < longest and not ended.all():
            logits, state, weights = self.decode(token, state, memory)
            token = logits.argmax(2)
            ended |= token == END
            written.append(token)
            looks.append(weights)
        return torch.cat(written, 1), None if self.attention is None else torch.cat(looks, 1)
