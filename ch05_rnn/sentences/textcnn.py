"""TextCNN: convolutions over word vectors and the maximum over time (Kim 2014).

Let x_1 ... x_n be the word vectors of a sentence, and x_i = 0 for all other i. A filter of width m has a weight vector
u of size m E and a bias b. It is applied to every window of m positions that contains at least one word; window i ends
at position i:

    a_i = u . [x_{i-m+1}; ...; x_i] + b        for i = 1 ... n + m - 1
    f   = max(0, max_i a_i)                    feature of the filter: the maximum over time

Kim applies the ReLU before the maximum, f = max_i max(0, a_i), which is the same. The features f_1 ... f_J of all
filters, of several widths, are the input of a linear layer with weights w_kj and biases d_k, one for each class k:

    z_k = d_k + sum_j w_kj f_j

In training, dropout is applied to the features. After every gradient step a weight vector w_k = (w_k1 ... w_kJ) with
|w_k| > rho is rescaled to |w_k| = rho.

Dimensions: B batch, T length of the longest sentence, E embedding size, m width of a filter, F filters of one width,
J features, F times the number of widths.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences.padding import PAD
from common.data.text.sentences import CLASS_NAMES

RANDOM_STD = 0.25
"""Standard deviation of random word vectors."""


def windows(vectors: Tensor, width: int) -> Tensor:
    """(B, T, E) word vectors -> (B, T + m - 1, m E) the vectors of each window, one after the other

    The windows at both ends are filled with zeros.
    """
    padded = F.pad(vectors, (0, 0, width - 1, width - 1))  # (B, T + 2 (m - 1), E)
    count = vectors.shape[1] + width - 1
    return torch.cat([padded[:, offset : offset + count] for offset in range(width)], dim=2)


class Filters(nn.Module):
    """F filters of one width, and the maximum of each over the windows of a sentence."""

    def __init__(self, width: int, embedding_size: int, filters: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width * embedding_size, filters)  # a row is the u of a filter

    def forward(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, E) word vectors, (B,) lengths -> (B, F) max_i a_i, (B, F) the i of the maximum, from 0

        Windows without a word are masked, because a bias alone could be the maximum.
        """
        a = self.linear(windows(vectors, self.width))  # (B, T + m - 1, F)
        has_word = torch.arange(a.shape[1], device=a.device) < (lengths.to(a.device) + self.width - 1).unsqueeze(1)
        maximum = a.masked_fill(~has_word.unsqueeze(2), -math.inf).max(dim=1)
        return maximum.values, maximum.indices


class TextCNN(nn.Module):
    """Convolutional network for sentences: filters of several widths, maximum over time, a linear layer."""

    def __init__(self, words: int, *, widths: Sequence[int], filters: int, embedding_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=PAD)  # the vector of the padding is zero
        nn.init.normal_(self.embedding.weight[PAD + 1 :], std=RANDOM_STD)
        self.filters = nn.ModuleList(Filters(width, embedding_size, filters) for width in widths)
        self.widths = [width for width in widths for _ in range(filters)]  # of each feature
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(filters * len(widths), len(CLASS_NAMES))

    def features(self, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) words, (B,) lengths -> (B, J) features f, (B, J) the window of each maximum"""
        vectors = self.embedding(words)
        maxima, places = zip(*(filters(vectors, lengths) for filters in self.filters), strict=True)
        return torch.cat(maxima, dim=1).relu(), torch.cat(places, dim=1)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) words, (B,) lengths -> (B, 2) logits"""
        features, _ = self.features(words, lengths)
        return self.output(self.dropout(features))


@torch.no_grad()
def limit_norms(weight: Tensor, maximum: float) -> None:
    """Rescale every row w with |w| > rho to |w| = rho, in place (Kim 2014, section 2.1).

    Unlike weight decay, this max-norm constraint does not change smaller vectors (Hinton et al. 2012).
    """
    norms = weight.norm(dim=1, keepdim=True)
    weight.mul_((maximum / norms).clamp(max=1))
