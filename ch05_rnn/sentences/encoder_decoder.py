"""Encoder-decoder network: a bidirectional LSTM encodes the source, an LSTM with attention generates the target.

Dimensions: B batch, S source tokens, T target tokens, H hidden units, V vocabulary size.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ch05_rnn.sentences.attention import AdditiveAttention, DotAttention
from ch05_rnn.sentences.padding import PAD, run_packed

START, END = 2, 3
"""Indices of the tokens at the start and the end of every target."""


def make_attention(kind: str, hidden_size: int) -> nn.Module | None:
    """Build an attention module by name: none, additive or dot."""
    if kind == "additive":
        return AdditiveAttention(hidden_size, hidden_size // 2)
    return DotAttention() if kind == "dot" else None


class Encoding(NamedTuple):
    """Output of the encoder."""

    states: Tensor
    """(B, S, H) hidden states"""
    final: tuple[Tensor, Tensor]
    """(1, B, H) final hidden and cell state: the decoder's initial state"""
    mask: Tensor
    """(B, S) False at padding"""


class Seq2Seq(nn.Module):
    """Bidirectional LSTM encoder, LSTM decoder, and attention between them.

    The context c_t is combined with the decoder state q_t after the recurrent step (Luong, Pham & Manning 2015,
    equation 5), so teacher forcing is one call for all steps: p(y_t) = softmax(W_y tanh(W_c [c_t; q_t])). Without
    attention, c_t is the final encoder state at every step (Cho et al. 2014), with the same number of weights as
    dot-product attention.
    """

    def __init__(
        self, source_size: int, target_size: int, *, attention: str, embedding_size: int, hidden_size: int
    ) -> None:
        super().__init__()
        half = hidden_size // 2
        self.source_embedding = nn.Embedding(source_size, embedding_size, padding_idx=PAD)
        self.target_embedding = nn.Embedding(target_size, embedding_size, padding_idx=PAD)
        self.encoder = nn.LSTM(embedding_size, half, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.attention = make_attention(attention, hidden_size)
        self.combine = nn.Linear(2 * hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, target_size)

    def encode(self, sources: Tensor, lengths: Tensor) -> Encoding:
        """(B, S) sources with (B,) lengths -> encoder states"""
        states, hidden, cell = run_packed(self.encoder, self.source_embedding(sources), lengths)
        return Encoding(states, (hidden.unsqueeze(0), cell.unsqueeze(0)), sources != PAD)

    def decode(
        self, tokens: Tensor, state: tuple[Tensor, Tensor], encoding: Encoding
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None]:
        """(B, T) previous tokens -> (B, T, V) logits of the next, the final state, (B, T, S) attention weights"""
        queries, state = self.decoder(self.target_embedding(tokens), state)
        if self.attention is None:
            context, weights = encoding.final[0].transpose(0, 1).expand_as(queries), None
        else:
            context, weights = self.attention(queries, encoding.states, encoding.mask)
        combined = torch.tanh(self.combine(torch.cat([context, queries], dim=2)))
        return self.output(combined), state, weights

    def forward(self, sources: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        """(B, S) sources, (B,) lengths, (B, T) previous target tokens (teacher forcing) -> (B, T, V) logits"""
        encoding = self.encode(sources, lengths)
        return self.decode(tokens, encoding.final, encoding)[0]

    @torch.inference_mode()
    def greedy(self, sources: Tensor, lengths: Tensor, max_length: int) -> tuple[Tensor, Tensor | None]:
        """(B, S) sources, (B,) lengths -> (B, T) most probable token at each step, (B, T, S) attention weights

        Greedy decoding stops when all targets have ended, at the latest after `max_length` tokens.
        """
        encoding = self.encode(sources, lengths)
        state, token = encoding.final, torch.full((len(sources), 1), START, device=sources.device)
        tokens, attention, ended = [], [], torch.zeros_like(token, dtype=torch.bool)
        while len(tokens) < max_length and not ended.all():
            logits, state, weights = self.decode(token, state, encoding)
            token = logits.argmax(2)
            ended |= token == END
            tokens.append(token)
            attention.append(weights)
        return torch.cat(tokens, 1), None if self.attention is None else torch.cat(attention, 1)
