"""Dynamic memory network (Kumar et al. 2016) in the version DMN+ (Xiong, Merity & Socher 2016).

The statements of a story are embedded as in encoding.py; a bidirectional GRU over them gives facts c_t, the sum of both
directions. The question q is embedded in the same way. Each hop, an episode, reads all facts in the order of time:

    z_t = [c_t * q, c_t * m, |c_t - q|, |c_t - m|]          features of a fact
    s_t = w tanh(V z_t + b) + b'                            score of the fact
    g_t = softmax_t(s_t)                                    gate of the fact: the gates of a story add up to 1
    h_t = g_t n_t + (1 - g_t) h_{t-1},  h_0 = 0             attention GRU, with the candidate state n_t of a GRU
    m'  = relu(W_k [m ; h_T ; q] + b_k)                     memory after episode k; first m = q
    answer: softmax(U [m ; q])                              after the last episode

A fact whose gate is 0 does not change the state. This is also how padding is skipped.

With `gates="sigmoid"`, g_t = sigmoid(s_t), as in Kumar et al. 2016. All gates are then near 1/2 at first, so h_T
depends on the last two or three facts, and the gradient of a fact is halved by each fact after it.

Dimensions: B batch, T statements of the longest story, M statements of all stories, V vocabulary size, E embedding and
hidden size, C answer classes, K episodes.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ch05_rnn.memory.encoding import Batch, embed
from ch05_rnn.recurrence.cells import make_weights

Gates = Literal["softmax", "sigmoid"]


class AttentionGRU(nn.Module):
    """GRU with the gate of a fact in the place of the update gate (Xiong et al. 2016, section 3.3)

    r = sigmoid(W_r c_t + U_r h_{t-1} + b_r)
    n = tanh(W_n c_t + b_n + r (U_n h_{t-1} + b'_n))
    h_t = g_t n + (1 - g_t) h_{t-1}
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = make_weights(2, size, size)

    def forward(self, facts: Tensor, gates: Tensor) -> Tensor:
        """(B, T, E) facts, (B, T) gates -> (B, E) state after the last fact"""
        projected = F.linear(facts, self.weight_ih, self.bias_ih)  # for all steps at once
        h = facts.new_zeros(len(facts), self.weight_hh.shape[1])
        for x, g in zip(projected.unbind(1), gates.unsqueeze(2).unbind(1), strict=True):
            x_r, x_n = x.chunk(2, 1)
            u_r, u_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(2, 1)
            n = torch.tanh(x_n + torch.sigmoid(x_r + u_r) * u_n)
            h = g * n + (1 - g) * h
        return h


class Gate(nn.Module):
    """Gate of each fact, from its similarity to the question and to the memory."""

    def __init__(self, size: int, gates: Gates) -> None:
        super().__init__()
        self.gates = gates
        self.layers = nn.Sequential(nn.Linear(4 * size, size), nn.Tanh(), nn.Linear(size, 1))

    def forward(self, c: Tensor, m: Tensor, q: Tensor, mask: Tensor) -> Tensor:
        """(B, T, E) facts, (B, E) memory, (B, E) question, (B, T) mask -> (B, T) gates, 0 at padding"""
        m, q = m.unsqueeze(1), q.unsqueeze(1)
        z = torch.cat([c * q, c * m, (c - q).abs(), (c - m).abs()], dim=2)
        scores = self.layers(z).squeeze(2).masked_fill(~mask, -math.inf)
        return scores.softmax(1) if self.gates == "softmax" else scores.sigmoid()


class DynamicMemory(nn.Module):
    """Dynamic memory network of K episodes."""

    def __init__(
        self,
        words: int,
        answers: int,
        *,
        hops: int,
        embedding_size: int,
        gates: Gates = "softmax",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        bound = math.sqrt(3)  # the word vectors have variance 1
        self.words = nn.Parameter(torch.empty(1, words, embedding_size).uniform_(-bound, bound))
        self.input = nn.GRU(embedding_size, embedding_size, batch_first=True, bidirectional=True)
        self.gate = Gate(embedding_size, gates)
        self.episode = AttentionGRU(embedding_size)
        self.updates = nn.ModuleList(nn.Linear(3 * embedding_size, embedding_size) for _ in range(hops))
        self.output = nn.Linear(2 * embedding_size, answers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Questions -> (B, C) logits"""
        return self.answer(batch)[0]

    def answer(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Questions -> (B, C) logits, (K, M) gates of each episode"""
        sentences, q = embed(batch.memories, self.words)[0], embed(batch.questions, self.words)[0]
        facts, mask = self.facts(self.dropout(sentences), batch.lengths)
        m, gates = q, []
        for update in self.updates:
            g = self.gate(facts, m, q, mask)
            m = update(torch.cat([m, self.episode(facts, g), q], dim=1)).relu()
            gates.append(g[mask])
        return self.output(self.dropout(torch.cat([m, q], dim=1))), torch.stack(gates)

    def facts(self, sentences: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(M, E) sentences, (B,) lengths -> (B, T, E) facts, (B, T) mask, False at padding"""
        mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths.unsqueeze(1)
        padded = sentences.new_zeros(*mask.shape, sentences.shape[1])
        padded[mask] = sentences
        packed = pack_padded_sequence(padded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.input(packed)[0], batch_first=True)
        forward, backward = states.chunk(2, dim=2)
        return forward + backward, mask
