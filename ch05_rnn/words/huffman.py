"""Hierarchical softmax: the probability of a word as a product of binary decisions in a Huffman tree.

The words are the leaves of a binary tree. Its inner nodes n have output vectors u_n, and a path goes left at n with
probability sigmoid(u_n . h) (Morin & Bengio 2005; Mikolov et al. 2013, "Distributed representations of words and
phrases", equation 3):

    p(w | h) = product over the inner nodes n on the path to w of  sigmoid(u_n . h) if it goes left at n,
                                                                   sigmoid(-u_n . h) if it goes right

The probabilities of all words sum to 1. One word needs only as many dot products as its path has nodes. In a Huffman
tree (Huffman 1952) frequent words have short paths, and the mean path length is minimal.

Dimensions: V vocabulary size, L longest path, P target words.
"""

import heapq

import torch
from torch import Tensor

from ch05_rnn.words.network import Decisions


def huffman_paths(counts: list[int]) -> list[list[tuple[int, int]]]:
    """V counts -> path of each word from the root: (inner node, 1 for left or 0 for right), inner nodes 0 ... V - 2

    The two nodes with the smallest counts are joined until one node remains, the root.
    """
    heap = [(count, word) for word, count in enumerate(counts)]  # equal counts are ordered by node
    heapq.heapify(heap)
    parent = [(-1, 0)] * (2 * len(counts) - 1)  # of words, then inner nodes: the inner node above, 1 for its left child
    for inner in range(len(counts) - 1):
        (left_count, left), (right_count, right) = heapq.heappop(heap), heapq.heappop(heap)
        parent[left], parent[right] = (inner, 1), (inner, 0)
        heapq.heappush(heap, (left_count + right_count, len(counts) + inner))
    paths = []
    for word in range(len(counts)):
        path, node = [], word
        while parent[node][0] >= 0:
            path.append(parent[node])
            node = len(counts) + parent[node][0]
        paths.append(path[::-1])
    return paths


class HierarchicalSoftmax:
    """Decisions of a target word: the branches on its path in the Huffman tree of the word counts."""

    def __init__(self, counts: Tensor) -> None:
        paths = huffman_paths(counts.tolist())
        self.outputs = len(paths) - 1
        self.lengths = torch.tensor([len(path) for path in paths])
        longest = int(self.lengths.max())
        padded = torch.tensor([path + [(0, 0)] * (longest - len(path)) for path in paths])  # (V, L, 2)
        self.nodes, self.labels = padded[..., 0], padded[..., 1].float()  # (V, L)
        self.mask = (torch.arange(longest) < self.lengths.unsqueeze(1)).float()

    def decisions(self, targets: Tensor, generator: torch.Generator) -> Decisions:  # noqa: ARG002  # nothing is sampled
        """(P,) target words -> their decisions, with J the length of the longest of their paths"""
        longest = int(self.lengths[targets].max())
        parts = (part[targets, :longest] for part in (self.nodes, self.labels, self.mask))
        return Decisions(*parts)
