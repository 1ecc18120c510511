"""Dynamic memory network (Kumar et al. 2016), with the input layer of DMN+ (Xiong, Merity & Socher 2016).

The statements of a story are embedded as in encoding.py; a bidirectional GRU over them gives facts c_t, the sum of both
directions. The question q is embedded in the same way. Each hop, an episode, reads all facts in the order of time:

    z   = [c, m, q, c * q, c * m, |c - q|, |c - m|, c W q, c W m]     features of a fact c_t
    g_t = sigmoid(w tanh(V z + b) + b')                               gate of the fact
    h_t = g_t GRU(c_t, h_{t-1}) + (1 - g_t) h_{t-1},  h_0 = 0         attention GRU
    m'  = GRU(h_T, m)                                                 memory after the episode; first m = q
    answer: softmax(U [m ; q])                                        after the last episode

A fact whose gate is 0 does not change the state. This is also how padding is skipped.

Dimensions: B batch, T statements of the longest story, M statements of all stories, V vocabulary size, E embedding and
hidden size, C answer classes, K episodes.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ch05_rnn.memory.encoding import Batch, embed
from ch05_rnn.recurrence.cells import GRUCell


def attention_gru(cell: GRUCell, facts: Tensor, gates: Tensor) -> Tensor:
    """(B, T, E) facts, (B, T) gates -> (B, E) state after the last fact (Kumar et al. 2016, section 2.3)"""
    projected = cell.project(facts)  # for all steps at once
    h = facts.new_zeros(len(facts), cell.weight_hh.shape[1])
    for x, g in zip(projected.unbind(1), gates.unsqueeze(2).unbind(1), strict=True):
        (candidate,) = cell.step(x, (h,))
        h = g * candidate + (1 - g) * h
    return h


class Gate(nn.Module):
    """Gate of each fact, from its similarity to the question and to the memory."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.W = nn.Linear(size, size, bias=False)
        self.layers = nn.Sequential(nn.Linear(7 * size + 2, size), nn.Tanh(), nn.Linear(size, 1))

    def forward(self, c: Tensor, m: Tensor, q: Tensor) -> Tensor:
        """(B, T, E) facts, (B, E) memory, (B, E) question -> (B, T) gates between 0 and 1"""
        m, q = m.unsqueeze(1).expand_as(c), q.unsqueeze(1).expand_as(c)
        forms = [(c * self.W(other)).sum(2, keepdim=True) for other in (q, m)]  # c W q and c W m
        z = torch.cat([c, m, q, c * q, c * m, (c - q).abs(), (c - m).abs(), *forms], dim=2)
        return torch.sigmoid(self.layers(z)).squeeze(2)


class DynamicMemory(nn.Module):
    """Dynamic memory network of K episodes."""

    def __init__(self, words: int, answers: int, *, hops: int, embedding_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.hops = hops
        self.words = nn.Parameter(0.1 * torch.randn(1, words, embedding_size))
        self.input = nn.GRU(embedding_size, embedding_size, batch_first=True, bidirectional=True)
        self.gate = Gate(embedding_size)
        self.episode = GRUCell(embedding_size, embedding_size)
        self.memory = GRUCell(embedding_size, embedding_size)
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
        for _ in range(self.hops):
            g = self.gate(facts, m, q) * mask
            e = attention_gru(self.episode, facts, g)
            (m,) = self.memory.step(self.memory.project(e), (m,))
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
