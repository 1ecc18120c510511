"""End-to-end memory network (Sukhbaatar, Szlam, Weston & Fergus 2015).

Every statement x_i of a story is a memory with two vectors, by which it is found (m_i) and which is read (c_i). A hop
k compares the state u with all memories and adds what it reads:

    m_i = A x_i + T^A(age_i),  c_i = C x_i + T^C(age_i)     A x: weighted sum of word vectors, see encoding.py
    p_i = softmax_i(u . m_i)                                attention weights
    o   = sum_i p_i c_i                                     what is read
    u'  = H u + o (layer-wise)  or  u + o (adjacent)        state of the next hop
    answer: softmax(W u)                                    after the last hop; first u = B q for the question q

Sharing (section 2.2): layer-wise, all hops have the same A and C; adjacent, A of hop k + 1 is C of hop k, B is the
first A and W the last C.

Dimensions: B batch, M memories of all stories of the batch, V vocabulary size, E embedding size, C answer classes,
R tables of word vectors, K hops.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ch05_rnn.memory.encoding import Batch, embed

Sharing = Literal["layer_wise", "adjacent"]

DEVIATION = 0.1
"""Standard deviation of all initial weights (section 4.2)."""


def softmax_by_story(scores: Tensor, owner: Tensor, stories: int, *, empty_memory: bool = False) -> Tensor:
    """(M,) scores, (M,) number of the story of each -> (M,) softmax over the scores of the same story

    With an empty memory, whose score is 0, the weights of a story add up to less than 1.
    """
    lowest = 0.0 if empty_memory else -torch.inf
    highest = torch.full((stories,), lowest, dtype=scores.dtype, device=scores.device)
    highest = highest.scatter_reduce(0, owner, scores.detach(), "amax")
    e = (scores - highest[owner]).exp()
    total = sum_by_story(e, owner, stories)
    if empty_memory:
        total = total + (-highest).exp()
    return e / total[owner]


def sum_by_story(values: Tensor, owner: Tensor, stories: int) -> Tensor:
    """(M, ...) values, (M,) number of the story of each -> (B, ...) sums"""
    return values.new_zeros(stories, *values.shape[1:]).index_add(0, owner, values)


def ages(lengths: Tensor, noise: float) -> Tensor:
    """(B,) lengths of stories -> (M,) age of every statement: 1 for the newest of its story

    With noise, up to `noise` times the length empty memories are first inserted at random places (section 4.1, "random
    noise"). Nothing is read from an empty memory: it only makes older statements older. The ages that remain are a
    random subset, in order.
    """
    longest = int(lengths.max()) + math.ceil(noise * int(lengths.max()))
    places = torch.arange(longest, device=lengths.device)  # 0 for the oldest
    slots, order = lengths, places.expand(len(lengths), -1).float()
    if noise > 0:
        most = (noise * lengths).ceil()
        slots = lengths + ((most + 1) * torch.rand(len(lengths), device=lengths.device)).floor().minimum(most).long()
        order = torch.rand(order.shape, device=lengths.device)
    order = order.masked_fill(places >= slots.unsqueeze(1), torch.inf)
    taken = order.argsort(1).argsort(1) < lengths.unsqueeze(1)
    story, place = taken.nonzero(as_tuple=True)
    return slots[story] - place


class EndToEnd(nn.Module):
    """End-to-end memory network of K hops."""

    answer_symbols: Tensor

    def __init__(
        self,
        words: int,
        answer_symbols: Tensor,
        *,
        hops: int,
        embedding_size: int,
        memory_size: int,
        sharing: Sharing = "layer_wise",
        empty_memory: bool = True,
        equal_tables: bool = True,
        noise: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sharing, self.hops, self.memory_size, self.noise = sharing, hops, memory_size, noise
        self.empty_memory = empty_memory
        adjacent = sharing == "adjacent"
        self.addressed = list(range(hops)) if adjacent else [0] * hops
        """Table A of each hop"""
        self.read = [table + 1 for table in self.addressed]
        """Table C of each hop"""
        self.asked = 0 if adjacent else 2
        """Table B"""
        tables = hops + 1 if adjacent else 3
        self.words = nn.Parameter(torch.empty(tables, words, embedding_size))
        self.time = nn.Parameter(torch.empty(hops + 1 if adjacent else 2, memory_size, embedding_size))
        self.H = None if adjacent else nn.Linear(embedding_size, embedding_size, bias=False)
        self.W = None if adjacent else nn.Linear(embedding_size, len(answer_symbols), bias=False)
        self.register_buffer("answer_symbols", answer_symbols, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = False
        """Attention without softmax (linear start, section 4.2)"""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=DEVIATION)
        if equal_tables and not adjacent:
            self.words.data[1:], self.time.data[1:] = self.words.data[0], self.time.data[0]

    def forward(self, batch: Batch) -> Tensor:
        """Questions -> (B, C) logits"""
        return self.answer(batch)[0]

    def answer(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Questions -> (B, C) logits, (K, M) attention weights of each hop"""
        age = ages(batch.lengths, self.noise if self.training else 0.0).clamp(max=self.memory_size)
        tables = len(self.time)
        memories = embed(batch.memories, self.words[:tables]) + self.time[:, age - 1]  # (R, M, E)
        memories = self.dropout(memories)
        u = embed(batch.questions, self.words[self.asked].unsqueeze(0)).squeeze(0)
        attention = []
        for a, c in zip(self.addressed, self.read, strict=True):
            p = (memories[a] * u[batch.owner]).sum(1)
            if not self.linear:
                p = softmax_by_story(p, batch.owner, len(u), empty_memory=self.empty_memory)
            o = sum_by_story(p.unsqueeze(1) * memories[c], batch.owner, len(u))
            u = o + (u if self.H is None else self.H(u))
            attention.append(p)
        W = self.words[-1][self.answer_symbols] if self.W is None else self.W.weight
        return self.dropout(u) @ W.T, torch.stack(attention)
