"""TextCNN: convolutions over word vectors and the maximum over time (Kim 2014).

Let x_1 ... x_n be the word vectors of a sentence, and x_i = 0 for all other i. A filter of width h has a weight vector
w of size h E and a bias b. It is applied to every window of h positions that contains at least one word; window i ends
at position i:

    c_i = w . [x_{i-h+1}; ...; x_i] + b        for i = 1 ... n + h - 1
    p   = max(0, max_i c_i)                    feature of the filter: the maximum over time

Kim applies the ReLU before the maximum, p = max_i max(0, c_i), which is the same. The features p_1 ... p_M of all
filters, of several widths, are the input of a linear layer with weights v_k and biases a_k, one for each class k:

    z_k = v_k . p + a_k

In training, dropout is applied to p. After every gradient step a vector v_k with |v_k| > s is rescaled to |v_k| = s.

Dimensions: B batch, T length of the longest sentence, E embedding size, h width of a filter, F filters of one width,
M = F x number of widths.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences.padding import PAD
from common.data.text.sentences import CLASS_NAMES


def windows(vectors: Tensor, width: int) -> Tensor:
    """(B, T, E) word vectors -> (B, T + h - 1, h E) the vectors of each window, one after the other

    The windows at both ends are filled with zeros.
    """
    padded = F.pad(vectors, (0, 0, width - 1, width - 1))  # (B, T + 2 (h - 1), E)
    count = vectors.shape[1] + width - 1
    return torch.cat([padded[:, offset : offset + count] for offset in range(width)], dim=2)


class Filters(nn.Module):
    """F filters of one width, and the maximum of each over the windows of a sentence."""

    def __init__(self, width: int, embedding_size: int, filters: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width * embedding_size, filters)  # a row is the w of a filter

    def forward(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, E) word vectors, (B,) lengths -> (B, F) max_i c_i, (B, F) the i of the maximum, from 0

        Windows without a word are masked, because a bias alone could be the maximum.
        """
        c = self.linear(windows(vectors, self.width))  # (B, T + h - 1, F)
        has_word = torch.arange(c.shape[1], device=c.device) < (lengths.to(c.device) + self.width - 1).unsqueeze(1)
        maximum = c.masked_fill(~has_word.unsqueeze(2), -math.inf).max(dim=1)
        return maximum.values, maximum.indices


class TextCNN(nn.Module):
    """Convolutional network for sentences: filters of several widths, maximum over time, a linear layer."""

    def __init__(self, words: int, *, widths: Sequence[int], filters: int, embedding_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=PAD)  # the vector of the padding is zero
        self.filters = nn.ModuleList(Filters(width, embedding_size, filters) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(filters * len(widths), len(CLASS_NAMES))

    def features(self, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) words, (B,) lengths -> (B, M) features p, (B, M) the window of each maximum"""
        vectors = self.embedding(words)
        maxima, places = zip(*(filters(vectors, lengths) for filters in self.filters), strict=True)
        return torch.cat(maxima, dim=1).relu(), torch.cat(places, dim=1)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) words, (B,) lengths -> (B, 2) logits"""
        p, _ = self.features(words, lengths)
        return self.output(self.dropout(p))


@torch.no_grad()
def limit_norms(weight: Tensor, maximum: float) -> None:
    """Rescale every row v with |v| > s to |v| = s, in place (Kim 2014, section 2.1).

    Unlike weight decay, this max-norm constraint does not change smaller vectors (Hinton et al. 2012).
    """
    norms = weight.norm(dim=1, keepdim=True)
    weight.mul_((maximum / norms).clamp(max=1))
