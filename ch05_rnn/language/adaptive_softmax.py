"""Adaptive softmax: an output layer that spends less on rare words (Grave et al. 2017).

The vocabulary is ordered by frequency and cut into a head, the most frequent words, and clusters of rarer ones. The
head has one output for each of its words and one for each cluster; cluster c has an output layer of its own, over a
projection of the hidden state to fewer units:

    p(w | h) = softmax(W_0 h)_w                                     w in the head
    p(w | h) = softmax(W_0 h)_c  softmax(W_c P_c h)_w               w in cluster c

In training a cluster is computed only for the tokens whose target is in it. With most targets in the head, that is a
small part of the batch.

Dimensions: N tokens, H hidden units, V vocabulary size, C clusters.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REDUCTION = 4
"""Each cluster is projected to this many times fewer units than the one before it."""


class AdaptiveSoftmax(nn.Module):
    """The head and the clusters; `cutoffs` are the first words of the clusters."""

    def __init__(self, hidden_size: int, vocabulary_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.bounds = [*cutoffs, vocabulary_size]
        self.head = nn.Linear(hidden_size, cutoffs[0] + len(cutoffs), bias=False)
        self.clusters = nn.ModuleList()
        for number, (first, end) in enumerate(pairwise(self.bounds), start=1):
            size = max(1, hidden_size // REDUCTION**number)
            project, output = nn.Linear(hidden_size, size, bias=False), nn.Linear(size, end - first, bias=False)
            self.clusters.append(nn.Sequential(project, output))

    def forward(self, h: Tensor) -> Tensor:
        """(..., H) hidden states -> (..., V) log-probabilities"""
        wide = torch.promote_types(h.dtype, torch.float32)
        head = self.head(h).to(wide).log_softmax(-1)
        words, clusters = head[..., : self.bounds[0]], head[..., self.bounds[0] :]
        parts = [words]
        for number, cluster in enumerate(self.clusters):
            within = cluster(h).to(wide).log_softmax(-1)
            parts.append(clusters[..., number : number + 1] + within)
        return torch.cat(parts, dim=-1)

    def loss(self, h: Tensor, targets: Tensor) -> Tensor:
        """(N, H) hidden states, (N,) targets -> mean cross-entropy in nats"""
        head_targets = targets.clone()
        total = h.new_zeros((), dtype=torch.promote_types(h.dtype, torch.float32))
        for number, (first, end) in enumerate(pairwise(self.bounds)):
            rows = ((targets >= first) & (targets < end)).nonzero().squeeze(1)
            head_targets[rows] = self.bounds[0] + number
            within = self.clusters[number](h[rows])
            total = total + F.cross_entropy(within.to(total.dtype), targets[rows] - first, reduction="sum")
        total = total + F.cross_entropy(self.head(h).to(total.dtype), head_targets, reduction="sum")
        return total / len(targets)
