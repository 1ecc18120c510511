"""Captioning network: a CNN encodes the image as a grid of features, an LSTM with attention over it writes the caption.

Xu et al. 2015, "Show, Attend and Tell", sections 3.1 and 4.2 (deterministic soft attention). The features a_i are the
annotation vectors of the positions i of the grid. Step t computes

    e_ti = v . tanh(W [h_{t-1}; E y_{t-1}] + U a_i)
    alpha_t = softmax(e_t)
    z_t = beta_t sum_i alpha_ti a_i                          context, with gate beta_t = sigmoid(w_b . h_{t-1})
    h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})
    p(y_t) = softmax(L_o (E y_{t-1} + L_h h_t + L_z z_t))    equation 7

There the query is h_{t-1} alone: the attention does not depend on the previous word, to which it cannot react until
the step after. Here, also unlike there, the encoder is trained with the decoder, and the features of a position include
its coordinates, as in relation networks (Santoro et al. 2017).

Dimensions: B batch, S image size, L positions of the grid, D size of their features, E embedding size, H hidden units,
A attention size, T steps, V vocabulary size.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ch05_rnn.sentences.attention import AdditiveAttention
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD

GRID = 8
"""Rows and columns of the grid of features."""
FIRST_CHANNELS = 16
FARTHEST = 4.0
"""Largest coordinate of the grid. With coordinates up to 1, two numbers among many features, it takes longer to learn
which object is on the left."""

State = tuple[Tensor, Tensor]
"""(B, H) hidden and cell state of the decoder"""


class Features(NamedTuple):
    """Output of the encoder."""

    grid: Tensor
    """(B, L, D) annotation vectors a_i, row by row"""
    mean: Tensor
    """(B, D) their mean"""
    keys: Tensor | None
    """(B, L, A) U a_i, the same at every step; None without attention"""

    def repeat(self, times: int) -> "Features":
        """Repeat each image's features, as a beam search needs them."""
        keys = None if self.keys is None else self.keys.repeat_interleave(times, dim=0)
        return Features(self.grid.repeat_interleave(times, dim=0), self.mean.repeat_interleave(times, dim=0), keys)


def convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Build a 3 × 3 convolution with batch normalisation and ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Encoder(nn.Module):
    """Convolutions, of stride 2 down to the grid, with twice the channels each; then the coordinates."""

    def __init__(self, image_size: int, feature_size: int) -> None:
        super().__init__()
        channels, size = FIRST_CHANNELS, image_size
        layers = [convolution(3, channels, stride=1)]
        while size > GRID:
            layers.append(convolution(channels, 2 * channels, stride=2))
            channels, size = 2 * channels, size // 2
        layers.append(convolution(channels, feature_size, stride=1))
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        axis = torch.linspace(-FARTHEST, FARTHEST, GRID)
        self.coordinates = nn.Buffer(torch.cartesian_prod(axis, axis), persistent=False)  # (L, 2) row and column

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> (B, L, D)"""
        pixels = images.to(self.coordinates.dtype, memory_format=torch.channels_last) / 127.5 - 1
        features = self.layers(pixels).flatten(2).transpose(1, 2)
        return torch.cat([features, self.coordinates.expand(len(images), -1, -1)], dim=2)


def add_noise(tokens: Tensor, probability: float, words: int) -> Tensor:
    """Replace each word by a random word with this probability; reserved tokens stay.

    Noise on its input words smooths a language model (Xie et al. 2017): the decoder learns that a word can follow
    another even if it never does in the training captions.
    """
    replaced = (torch.rand(tokens.shape, device=tokens.device) < probability) & (tokens > END)
    return torch.where(replaced, torch.randint_like(tokens, END + 1, words), tokens)


class SpatialAttention(nn.Module):
    """Additive attention over the grid, with a gate on the context (section 4.2.1)."""

    def __init__(self, embedding_size: int, hidden_size: int, attention_size: int, feature_size: int) -> None:
        super().__init__()
        self.additive = AdditiveAttention(hidden_size + embedding_size, attention_size, feature_size)
        self.gate = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor, embedded: Tensor, grid: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H) state before the step, (B, E) previous word, (B, L, D) features, (B, L, A) keys -> (B, D) context,
        (B, L) attention weights
        """
        query = torch.cat([hidden, embedded], dim=1)
        context, alpha = self.additive(query.unsqueeze(1), grid, None, keys)
        beta = torch.sigmoid(self.gate(hidden))
        return beta * context.squeeze(1), alpha.squeeze(1)


class Captioner(nn.Module):
    """Encoder, and decoder with additive attention or with the mean of the features at every step."""

    def __init__(
        self,
        words: int,
        *,
        attention: str,
        image_size: int,
        feature_size: int,
        embedding_size: int,
        hidden_size: int,
        attention_size: int,
        dropout: float = 0.0,
        word_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(image_size, feature_size)
        feature_size += 2  # the coordinates
        additive = attention == "additive"
        self.attention = (
            SpatialAttention(embedding_size, hidden_size, attention_size, feature_size) if additive else None
        )
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=PAD)
        self.initial = nn.Linear(feature_size, 2 * hidden_size)
        self.cell = nn.LSTMCell(embedding_size + feature_size, hidden_size)
        self.dropout, self.word_noise = nn.Dropout(dropout), word_noise
        self.hidden_output = nn.Linear(hidden_size, embedding_size)
        self.context_output = nn.Linear(feature_size, embedding_size, bias=False)
        self.output = nn.Linear(embedding_size, words)

    def encode(self, images: Tensor) -> tuple[Features, State]:
        """(B, 3, S, S) images -> features, initial state tanh(W mean(a)) of the decoder"""
        grid = self.encoder(images)
        mean = grid.mean(dim=1)
        hidden, cell = torch.tanh(self.initial(mean)).chunk(2, dim=1)
        keys = None if self.attention is None else self.attention.additive.U(grid)
        return Features(grid, mean, keys), (hidden, cell)

    def step(self, tokens: Tensor, state: State, features: Features) -> tuple[Tensor, State, Tensor | None]:
        """(B,) previous words -> (B, V) logits of the next, state after the step, (B, L) attention weights"""
        embedded = self.embedding(tokens)
        if self.attention is None or features.keys is None:
            context, alpha = features.mean, None
        else:
            context, alpha = self.attention(state[0], embedded, features.grid, features.keys)
        state = self.cell(torch.cat([embedded, context], dim=1), state)
        deep = embedded + self.hidden_output(self.dropout(state[0])) + self.context_output(context)
        return self.output(self.dropout(deep)), state, alpha

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) images, (B, T) previous words (teacher forcing) -> (B, T, V) logits, (B, T, L) weights"""
        features, state = self.encode(images)
        if self.training and self.word_noise > 0:
            tokens = add_noise(tokens, self.word_noise, self.output.out_features)
        logits, weights = [], []
        for previous in tokens.unbind(dim=1):
            one, state, alpha = self.step(previous, state, features)
            logits.append(one)
            weights.append(alpha)
        return torch.stack(logits, dim=1), None if self.attention is None else torch.stack(weights, dim=1)

    @torch.inference_mode()
    def greedy(self, images: Tensor, max_length: int) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) images -> (B, T) most probable word at each step, (B, T, L) attention weights

        Greedy decoding stops when all captions have ended, at the latest after `max_length` words.
        """
        features, state = self.encode(images)
        token = torch.full((len(images),), START, device=images.device)
        tokens, weights, ended = [], [], torch.zeros_like(token, dtype=torch.bool)
        while len(tokens) < max_length and not ended.all():
            logits, state, alpha = self.step(token, state, features)
            token = logits.argmax(dim=1)
            ended |= token == END
            tokens.append(token)
            weights.append(alpha)
        return torch.stack(tokens, dim=1), None if self.attention is None else torch.stack(weights, dim=1)
