"""The Transformer as an encoder-decoder (Vaswani et al. 2017).

The encoder's blocks attend to all positions of the source. A block of the decoder attends to the target tokens so far,
then to the encoder states h_s (cross-attention): queries come from the decoder, keys and values from the encoder.

    encoder    x <- x + attention(norm(x), norm(x))        decoder    x <- x + causal_attention(norm(x))
               x <- x + feed_forward(norm(x))                         x <- x + attention(norm(x), h)
                                                                      x <- x + feed_forward(norm(x))

Padding of the source is masked: its scores are -infinity. Padding of the target follows the last token, so the causal
mask is enough. The later changes are those of `language/transformer.py`: the norm is RMSNorm and is applied before each
layer, the feed-forward network has a squared ReLU, and self-attention has rotary positions. Both languages share one
vocabulary and one matrix E, which is also the output layer.

The state of the decoder is its cache of keys and values, so the next token costs one position.

Dimensions: B batch, S source tokens, T target tokens, E width, H heads, D = E / H, V vocabulary size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.language.attention import Cache, MultiHeadAttention, Rotation, attend, rotate, rotation
from ch05_rnn.language.transformer import FeedForward, make_norm
from ch05_rnn.sentences.padding import PAD

WHOLE = 2**20
"""Context of the decoder's self-attention, in tokens: more than any text has."""

Memory = tuple[Tensor, ...]
"""(B, S) mask, False at padding; then keys and values of each block's cross-attention, each (B, H, S, D)"""


class MaskedAttention(nn.Module):
    """Attention with H heads over states with padding: those of the encoder, or the inputs themselves."""

    def __init__(self, width: int, heads: int, *, by_hand: bool) -> None:
        super().__init__()
        self.heads, self.by_hand = heads, by_hand
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def queries(self, x: Tensor, turn: Rotation | None = None) -> Tensor:
        """(B, T, E) -> (B, H, T, D)"""
        q = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        return q if turn is None else rotate(q, turn)

    def keys_values(self, states: Tensor, turn: Rotation | None = None) -> Cache:
        """(B, S, E) states -> keys and values, each (B, H, S, D)"""
        k, v = self.key_value(states).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k if turn is None else rotate(k, turn), v

    def forward(self, x: Tensor, keys_values: Cache, mask: Tensor, turn: Rotation | None = None) -> Tensor:
        """(B, T, E) inputs, keys and values, (B, S) mask, False at padding -> (B, T, E)"""
        q, (k, v), mask = self.queries(x, turn), keys_values, mask[:, None, None]  # (B, 1, 1, S)
        y = attend(q, k, v, mask) if self.by_hand else F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(y.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """(B, T, E) inputs, (B, H, S, D) keys, (B, S) mask -> (B, T, S) attention weights, their mean over the heads"""
        scores = self.queries(x) @ keys.mT / math.sqrt(keys.shape[3])
        return scores.masked_fill(~mask[:, None, None], -math.inf).softmax(-1).mean(dim=1)


class EncoderBlock(nn.Module):
    """Self-attention over the source and a feed-forward network, with norms and residual connections."""

    def __init__(self, width: int, hidden_size: int, heads: int, *, dropout: float, by_hand: bool) -> None:
        super().__init__()
        self.attention_norm = make_norm(width, by_hand=by_hand)
        self.attention = MaskedAttention(width, heads, by_hand=by_hand)
        self.feed_forward_norm = make_norm(width, by_hand=by_hand)
        self.feed_forward = FeedForward(width, hidden_size)
        self.dropout = nn.Dropout(dropout)
        for output in (self.attention.output, self.feed_forward.output):
            nn.init.zeros_(output.weight)  # at first every block is the identity

    def forward(self, x: Tensor, mask: Tensor, turn: Rotation) -> Tensor:
        """(B, S, E), (B, S) mask and the rotation -> (B, S, E)"""
        normed = self.attention_norm(x)
        y = self.attention(normed, self.attention.keys_values(normed, turn), mask, turn)
        x = x + self.dropout(y)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention and a feed-forward network, with norms and residual connections."""

    def __init__(self, width: int, hidden_size: int, heads: int, *, dropout: float, by_hand: bool) -> None:
        super().__init__()
        self.attention_norm = make_norm(width, by_hand=by_hand)
        self.attention = MultiHeadAttention(width, heads, WHOLE, normalised=False, by_hand=by_hand)
        self.cross_norm = make_norm(width, by_hand=by_hand)
        self.cross_attention = MaskedAttention(width, heads, by_hand=by_hand)
        self.feed_forward_norm = make_norm(width, by_hand=by_hand)
        self.feed_forward = FeedForward(width, hidden_size)
        self.dropout = nn.Dropout(dropout)
        for output in (self.attention.output, self.cross_attention.output, self.feed_forward.output):
            nn.init.zeros_(output.weight)

    def forward(
        self, x: Tensor, cache: Cache, turn: Rotation, keys_values: Cache, mask: Tensor
    ) -> tuple[Tensor, Cache]:
        """(B, T, E), cache and rotation of self-attention, keys, values and mask of the source -> (B, T, E), cache"""
        y, cache = self.attention(self.attention_norm(x), cache, turn)
        x = x + self.dropout(y)
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), keys_values, mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x))), cache


class TranslationTransformer(nn.Module):
    """Encoder and decoder; the same methods as `TranslationGRU`."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        width: int,
        hidden_size: int,
        layers: int,
        heads: int,
        dropout: float,
        by_hand: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.head_size = heads, width // heads
        self.embedding = nn.Embedding(vocabulary_size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.encoder = nn.ModuleList(
            EncoderBlock(width, hidden_size, heads, dropout=dropout, by_hand=by_hand) for _ in range(layers)
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(width, hidden_size, heads, dropout=dropout, by_hand=by_hand) for _ in range(layers)
        )
        self.encoder_norm, self.decoder_norm = (make_norm(width, by_hand=by_hand) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = nn.Dropout(dropout)

    def embed(self, tokens: Tensor, first: int = 0) -> tuple[Tensor, Rotation]:
        """(B, T) tokens, the first of which is at this position -> (B, T, E) embeddings, scaled to a root mean square
        of about 1, and the rotation of their positions
        """
        positions = first + torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x), rotation(positions, self.head_size, self.embedding.weight.dtype)

    def encode(self, sources: Tensor) -> tuple[Memory, tuple[Tensor, ...]]:
        """(B, S) sources -> what every step of the decoder reads, and its initial state: two empty caches per block"""
        mask = sources != PAD
        x, turn = self.embed(sources)
        for block in self.encoder:
            x = block(x, mask, turn)
        states = self.encoder_norm(x)
        memory: list[Tensor] = []
        for block in self.decoder:
            assert isinstance(block, DecoderBlock)
            memory += block.cross_attention.keys_values(states)
        empty = states.new_empty(len(sources), self.heads, 0, self.head_size)
        return (mask, *memory), (empty,) * (2 * len(self.decoder))

    def decode(self, tokens: Tensor, state: Sequence[Tensor], memory: Memory) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, T) tokens and the state before them -> (B, T, V) logits of the tokens that follow each, and the state"""
        mask, *parts = memory
        x, turn = self.embed(tokens, first=state[0].shape[2])
        final: list[Tensor] = []
        caches = zip(state[::2], state[1::2], strict=True)
        keys_values = zip(parts[::2], parts[1::2], strict=True)
        for block, cache, its in zip(self.decoder, caches, keys_values, strict=True):
            x, cache = block(x, cache, turn, its, mask)
            final += cache
        return F.linear(self.decoder_norm(x), self.embedding.weight, self.bias), tuple(final)

    def forward(self, sources: Tensor, tokens: Tensor) -> Tensor:
        """(B, S) sources, (B, T) previous tokens (teacher forcing) -> (B, T, V) logits"""
        memory, state = self.encode(sources)
        return self.decode(tokens, state, memory)[0]

    def step(self, tokens: Tensor, state: tuple[Tensor, ...], memory: Memory) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) previous tokens and the state -> (B, V) logits of the next, and the state after the step"""
        logits, state = self.decode(tokens.unsqueeze(1), state, memory)
        return logits.squeeze(1), state

    def alignments(self, sources: Tensor, tokens: Tensor) -> Tensor:
        """(B, S) sources, (B, T) previous tokens -> (B, T, S) weights of the last block's cross-attention

        The weights of all heads, averaged.
        """
        last, inputs = self.decoder[-1], []
        assert isinstance(last, DecoderBlock)
        hook = last.cross_attention.register_forward_pre_hook(lambda _, its: inputs.append(its))
        self(sources, tokens)
        hook.remove()
        ((x, (keys, _), mask),) = inputs
        return last.cross_attention.weights(x, keys, mask)
