"""The Transformer as a language model: GPT (Radford et al. 2018) with later changes.

Token embeddings pass through L blocks. Each block adds the output of an attention layer, then of a feed-forward network
to its input (residual connections), and normalises the input of both (pre-norm, Xiong et al. 2020):

    x <- x + attention(norm(x))
    x <- x + W_2 relu(W_1 norm(x))^2

The output layer predicts the next token from norm(x). The later changes are RMSNorm (Zhang & Sennrich 2019), rotary
positions (Su et al. 2021), normalised queries and keys (Henry et al. 2020) and a squared ReLU (So et al. 2021).

Its state holds keys and values of the last C - 1 tokens, so the network can be used like a recurrent one: with the
state carried over, a text read in several parts gets the same logits as a text read at once.

Dimensions: T steps, B batch, C context, V vocabulary size, E width, F feed-forward units, H heads, D = E / H.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ch05_rnn.language.attention import (
    EPSILON,
    Cache,
    MultiHeadAttention,
    Rotation,
    angles,
    rms_normalise,
    rotation,
)
from ch05_rnn.language.linear_cross_entropy import linear_cross_entropy
from ch05_rnn.recurrence.cells import State

PositionName = Literal["rotary", "sinusoidal", "none"]

SHIFT = 2**16
"""In training with sinusoidal positions, a text starts at a random position below this, about the longest period."""


def sinusoidal(positions: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """(T,) positions t -> (T, E) features: sin(t omega_i) at 2 i, cos(t omega_i) at 2 i + 1

    Vaswani et al. 2017, section 3.5.
    """
    turned = angles(positions, size, dtype)
    return torch.stack([turned.sin(), turned.cos()], -1).flatten(1)


class RMSNorm(nn.Module):
    """y = g x / sqrt(mean(x^2) + epsilon), with a gain g for every feature; by hand, as nn.RMSNorm"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)"""
        return rms_normalise(x) * self.weight


def make_norm(width: int, *, by_hand: bool) -> nn.Module:
    """Build RMSNorm, by hand or torch's."""
    return RMSNorm(width) if by_hand else nn.RMSNorm(width, eps=EPSILON)


class FeedForward(nn.Module):
    """W_2 relu(W_1 x)^2, at every position alike"""

    def __init__(self, width: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)"""
        return self.output(self.hidden(x).relu().square())


class Block(nn.Module):
    """Attention, then a feed-forward network, each with a norm before it and a residual connection around it."""

    def __init__(
        self, width: int, hidden_size: int, heads: int, context: int, *, dropout: float, by_hand: bool
    ) -> None:
        super().__init__()
        self.attention_norm = make_norm(width, by_hand=by_hand)
        self.attention = MultiHeadAttention(width, heads, context, by_hand=by_hand)
        self.feed_forward_norm = make_norm(width, by_hand=by_hand)
        self.feed_forward = FeedForward(width, hidden_size)
        self.dropout = nn.Dropout(dropout)
        for output in (self.attention.output, self.feed_forward.output):
            nn.init.zeros_(output.weight)  # at first every block is the identity

    def forward(self, x: Tensor, cache: Cache, turn: Rotation | None) -> tuple[Tensor, Cache]:
        """(B, T, E), the cache and the rotation -> (B, T, E) and the cache for the tokens that follow"""
        y, cache = self.attention(self.attention_norm(x), cache, turn)
        x = x + self.dropout(y)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x))), cache


class Transformer(nn.Module):
    """Embedding, blocks, a last norm and the output layer; the same methods as the recurrent `LanguageModel`."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        width: int,
        hidden_size: int,
        layers: int,
        heads: int,
        context: int,
        positions: PositionName = "rotary",
        dropout: float = 0.0,
        by_hand: bool = False,
    ) -> None:
        super().__init__()
        self.context, self.positions = context, positions
        self.heads, self.head_size = heads, width // heads
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, hidden_size, heads, context, dropout=dropout, by_hand=by_hand) for _ in range(layers)
        )
        self.norm = make_norm(width, by_hand=by_hand)
        self.decoder = nn.Linear(width, vocabulary_size)
        nn.init.zeros_(self.decoder.weight)  # at first all tokens are equally probable
        nn.init.zeros_(self.decoder.bias)

    def initial_state(self, batch_size: int) -> list[State]:
        """B -> the number of tokens read so far, (), and for every block an empty cache

        With sinusoidal positions, the number is random in training (Kiyono et al. 2021): evaluation then meets no
        position that training has not seen.
        """
        shifted = self.training and self.positions == "sinusoidal"
        position = torch.randint(SHIFT if shifted else 1, (), device=self.embedding.weight.device)
        empty = self.embedding.weight.new_empty(batch_size, self.heads, 0, self.head_size)
        return [(position,), *[(empty, empty) for _ in self.blocks]]

    def hidden(self, tokens: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """(T, B) tokens and the initial state -> (T, B, E) input of the output layer, and the final state

        At most C tokens are read at once, so that memory grows with T and not with its square.
        """
        parts = []
        for some in tokens.split(self.context):
            x, state = self.read(some, state)
            parts.append(x)
        return torch.cat(parts), state

    def read(self, tokens: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """(T, B) at most C tokens and the state before them -> (T, B, E) and the state after them"""
        (first,), *caches = state
        positions = first + torch.arange(len(tokens), device=tokens.device)
        x, dtype = self.embedding(tokens.T), self.embedding.weight.dtype
        if self.positions == "sinusoidal":
            x = x + sinusoidal(positions, x.shape[2], dtype)
        turn = rotation(positions, self.head_size, dtype) if self.positions == "rotary" else None
        x, final = self.dropout(x), []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, cache, turn)
            final.append(cache)
        return self.norm(x).transpose(0, 1), [(first + len(tokens),), *final]

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) input of the output layer -> (..., V) logits"""
        return self.decoder(hidden)

    def forward(self, tokens: Tensor, state: list[State], targets: Tensor | None = None) -> tuple[Tensor, list[State]]:
        """(T, B) tokens and the initial state -> (T, B, V) logits, or the mean loss if targets (T, B) are given; and
        the final state
        """
        x, final = self.hidden(tokens, state)
        if targets is None:
            return self.logits(x), final
        bf16 = torch.is_autocast_enabled(x.device.type)
        weight, bias = self.decoder.weight, self.decoder.bias
        return linear_cross_entropy(x.flatten(0, 1), weight, bias, targets.flatten(), bf16=bf16), final
