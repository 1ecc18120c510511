"""The network of a language model: an embedding, recurrent layers, an output layer, and dropout between them.

Dimensions: T steps, B batch, V symbols, E embedding, H hidden units.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ch05_rnn.language.linear_cross_entropy import linear_cross_entropy
from ch05_rnn.recurrence.cells import STATES, By, CellName, State, make_layer


class Dropout(nn.Module):
    """Set a share of the numbers to zero while training, and enlarge the others so that their sum is expected to stay.

    Locked, the same numbers of a stream are dropped at all its steps (Gal & Ghahramani 2016).
    """

    def __init__(self, share: float, *, locked: bool) -> None:
        super().__init__()
        self.share, self.locked = share, locked

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, H) -> (T, B, H)"""
        if not self.training or self.share == 0:
            return x
        kept = x.new_empty(x[:1].shape if self.locked else x.shape).bernoulli_(1 - self.share)
        return x * kept.div_(1 - self.share)


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, output layer, with dropout between them."""

    def __init__(
        self,
        symbols: int,
        *,
        cell: CellName = "lstm",
        by: By = "library",
        embedding_size: int,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        locked: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding_size)
        top = embedding_size if tied else hidden_size
        sizes = [embedding_size, *[hidden_size] * (layers - 1), top]
        self.layers = nn.ModuleList(make_layer(cell, below, above, by) for below, above in pairwise(sizes))
        self.dropout = Dropout(dropout, locked=locked)
        self.decoder = nn.Linear(top, symbols)
        if tied:
            nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)  # torch's std of 1 would begin too sure
            self.decoder.weight = self.embedding.weight
        self.state_sizes = [[size] * STATES[cell] for size in sizes[1:]]

    def initial_state(self, batch: int) -> list[State]:
        """B -> the state before a text begins: zeros for every layer"""
        where = self.decoder.bias
        return [tuple(where.new_zeros(batch, size) for size in sizes) for sizes in self.state_sizes]

    def hidden(self, tokens: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """(T, B) tokens and the state before them -> (T, B, H) what the output layer sees, and the state after"""
        x, after = self.embedding(tokens), []
        for layer, before in zip(self.layers, state, strict=True):
            x, now = layer(self.dropout(x), before)
            after.append(now)
        return self.dropout(x), after

    def forward(self, tokens: Tensor, state: list[State], targets: Tensor | None = None) -> tuple[Tensor, list[State]]:
        """(T, B) tokens and the state before them -> (T, B, V) logits, or the loss where there are targets (T, B);
        and the state after
        """
        x, after = self.hidden(tokens, state)
        if targets is None:
            return self.decoder(x), after
        bf16 = torch.is_autocast_enabled(x.device.type)
        weight, bias = self.decoder.weight, self.decoder.bias
        return linear_cross_entropy(x.flatten(0, 1), weight, bias, targets.flatten(), bf16=bf16), after
