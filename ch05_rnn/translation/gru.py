"""Encoder-decoder of GRUs with additive attention (Bahdanau, Cho & Bengio 2015).

A bidirectional GRU computes a state h_s for every position s of the source. Step t of the decoder computes, with the
embedding E y of a token y,

    alpha_t = softmax over s of (v . tanh(W s_{t-1} + U h_s))    attention weights
    c_t = sum_s alpha_ts h_s                                     context
    s_t = GRU([E y_{t-1}; c_t], s_{t-1})
    p(y_t) = softmax(E' r_t + b),  r_t = tanh(W_r [s_t; c_t; E y_{t-1}])

Here the attention is part of the recurrence: s_t depends on the contexts so far, and so do the next scores. In
`encoder_decoder.py` the context is combined with the state after the recurrent step.

Both languages share one vocabulary and one matrix E, which is also the output layer (Press & Wolf 2017). The paper's
output layer has maxout units instead of r_t.

Dimensions: B batch, S source tokens, T target tokens, E embedding size, H hidden units, A attention size, V vocabulary
size.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ch05_rnn.sentences.attention import AdditiveAttention
from ch05_rnn.sentences.padding import PAD

Memory = tuple[Tensor, ...]
"""(B, S) mask, False at padding; (B, S, H) encoder states h_s; (B, S, A) keys U h_s"""


class TranslationGRU(nn.Module):
    """Bidirectional GRU encoder, and GRU decoder with additive attention."""

    def __init__(self, vocabulary_size: int, *, embedding_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.encoder = nn.GRU(embedding_size, hidden_size // 2, batch_first=True, bidirectional=True)
        self.initial = nn.Linear(hidden_size, hidden_size)
        self.attention = AdditiveAttention(hidden_size, hidden_size // 2)
        self.cell = nn.GRUCell(embedding_size + hidden_size, hidden_size)
        self.readout = nn.Linear(2 * hidden_size + embedding_size, embedding_size)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = nn.Dropout(dropout)

    def embed(self, tokens: Tensor) -> Tensor:
        """(...) tokens -> (..., E) embeddings, scaled to a root mean square of about 1"""
        return self.dropout(self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim))

    def encode(self, sources: Tensor) -> tuple[Memory, tuple[Tensor, ...]]:
        """(B, S) sources -> what every step of the decoder reads, and its initial state, (B, H)"""
        mask = sources != PAD
        lengths = mask.sum(dim=1).cpu()
        packed = pack_padded_sequence(self.embed(sources), lengths, batch_first=True, enforce_sorted=False)
        states, final = self.encoder(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=sources.shape[1])
        states = self.dropout(states)
        initial = torch.tanh(self.initial(torch.cat([*final], dim=1)))
        return (mask, states, self.attention.U(states)), (initial,)

    def advance(self, embedded: Tensor, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """(B, E) previous token, (B, H) state -> (B, H) next state, (B, H) context, (B, S) attention weights"""
        mask, states, keys = memory
        context, weights = self.attention(state.unsqueeze(1), states, mask, keys)
        context = context.squeeze(1)
        return self.cell(torch.cat([embedded, context], dim=1), state), context, weights.squeeze(1)

    def logits(self, state: Tensor, context: Tensor, embedded: Tensor) -> Tensor:
        """(..., H) states, (..., H) contexts, (..., E) previous tokens -> (..., V) logits"""
        r = torch.tanh(self.readout(self.dropout(torch.cat([state, context, embedded], dim=-1))))
        return F.linear(self.dropout(r), self.embedding.weight, self.bias)

    def read(self, sources: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) sources, (B, T) previous tokens (teacher forcing) -> (B, T, V) logits, (B, T, S) attention weights

        The steps are sequential, but the output layer is one product for all of them.
        """
        memory, (state,) = self.encode(sources)
        embedded = self.embed(tokens)
        states, contexts, weights = [], [], []
        for previous in embedded.unbind(dim=1):
            state, context, alpha = self.advance(previous, state, memory)
            states.append(state)
            contexts.append(context)
            weights.append(alpha)
        logits = self.logits(torch.stack(states, dim=1), torch.stack(contexts, dim=1), embedded)
        return logits, torch.stack(weights, dim=1)

    def forward(self, sources: Tensor, tokens: Tensor) -> Tensor:
        """(B, S) sources, (B, T) previous tokens (teacher forcing) -> (B, T, V) logits"""
        return self.read(sources, tokens)[0]

    def step(self, tokens: Tensor, state: tuple[Tensor, ...], memory: Memory) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) previous tokens and the state -> (B, V) logits of the next, and the state after the step"""
        embedded = self.embed(tokens)
        new, context, _ = self.advance(embedded, state[0], memory)
        return self.logits(new, context, embedded), (new,)

    def alignments(self, sources: Tensor, tokens: Tensor) -> Tensor:
        """(B, S) sources, (B, T) previous tokens -> (B, T, S) attention weights of each step"""
        return self.read(sources, tokens)[1]
