"""The network of the language model: embedding, recurrent layers, output layer, with dropout between them.

Dimensions: T steps, B batch, V vocabulary size, E embedding size, H hidden units.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ch05_rnn.language.adaptive_softmax import AdaptiveSoftmax
from ch05_rnn.language.linear_cross_entropy import linear_cross_entropy
from ch05_rnn.language.transformer import Transformer
from ch05_rnn.recurrence.cells import STATES, By, CellName, State, make_layer
from ch05_rnn.recurrence.highway import HighwayLayer

AnyCell = Literal[CellName, "rhn"]
"""Recurrent cell, or recurrent highway network."""


class LockedDropout(nn.Module):
    """Variational dropout (Gal & Ghahramani 2016): one dropout mask per sequence, the same at all its time steps.

    Like nn.Dropout, it scales the remaining features by 1 / (1 - p) in training and is the identity in evaluation.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, H) -> (T, B, H)"""
        if not self.training or self.p == 0:
            return x
        mask = x.new_empty(x[:1].shape).bernoulli_(1 - self.p)  # (1, B, H)
        return x * mask.div_(1 - self.p)


class LanguageModel(nn.Module):
    """The recurrent language model: embedding, recurrent layers and output layer, with dropout between them."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: AnyCell = "lstm",
        depth: int = 1,
        by: By = "library",
        embedding_size: int,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        locked: bool = False,
        tied: bool = False,
        cutoffs: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        last_size = embedding_size if tied else hidden_size
        sizes = [embedding_size, *[hidden_size] * (layers - 1), last_size]
        self.layers = nn.ModuleList(
            HighwayLayer(size_in, size_out, depth, dropout if locked else 0.0)
            if cell == "rhn"
            else make_layer(cell, size_in, size_out, by)
            for size_in, size_out in pairwise(sizes)
        )
        self.dropout = LockedDropout(dropout) if locked else nn.Dropout(dropout)
        self.adaptive = AdaptiveSoftmax(last_size, vocabulary_size, cutoffs) if cutoffs else None
        if self.adaptive is None:
            self.decoder = nn.Linear(last_size, vocabulary_size)
        if tied:
            nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)  # torch's std of 1 gives large logits
            self.decoder.weight = self.embedding.weight
        self.state_sizes = [[size] * (1 if cell == "rhn" else STATES[cell]) for size in sizes[1:]]

    def initial_state(self, batch_size: int) -> list[State]:
        """B -> a state of zeros for every layer"""
        zeros = self.embedding.weight.new_zeros
        return [tuple(zeros(batch_size, size) for size in sizes) for sizes in self.state_sizes]

    def hidden(self, tokens: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """(T, B) tokens and the initial state -> (T, B, H) input of the output layer, and the final state"""
        x, final = self.embedding(tokens), []
        for layer, layer_state in zip(self.layers, state, strict=True):
            x, layer_final = layer(self.dropout(x), layer_state)
            final.append(layer_final)
        return self.dropout(x), final

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., H) input of the output layer -> (..., V) logits, or log-probabilities with an adaptive softmax"""
        return self.decoder(hidden) if self.adaptive is None else self.adaptive(hidden)

    def forward(self, tokens: Tensor, state: list[State], targets: Tensor | None = None) -> tuple[Tensor, list[State]]:
        """(T, B) tokens and the initial state -> (T, B, V) logits, or the mean loss if targets (T, B) are given; and
        the final state
        """
        x, final = self.hidden(tokens, state)
        if targets is None:
            return self.logits(x), final
        if self.adaptive is not None:
            return self.adaptive.loss(x.flatten(0, 1), targets.flatten()), final
        bf16 = torch.is_autocast_enabled(x.device.type)
        weight, bias = self.decoder.weight, self.decoder.bias
        return linear_cross_entropy(x.flatten(0, 1), weight, bias, targets.flatten(), bf16=bf16), final


Network = LanguageModel | Transformer
"""Both kinds of language model have the same methods: `initial_state`, `hidden`, `logits` and `forward`."""
