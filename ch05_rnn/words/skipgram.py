"""Skip-gram with negative sampling: word vectors that separate context words from random words.

The loss of a centre word c, a context word o and K negative samples n_k (Mikolov et al. 2013, "Distributed
representations of words and phrases", equation 4), with v the centre vectors and u the context vectors:

    L = -log sigmoid(u_o . v_c) - sum_k log sigmoid(-u_k . v_c)

Dimensions: N tokens, P pairs, B batch, K negative samples per pair, V vocabulary size, D vector size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOISE_POWER = 0.75
"""Exponent of the word counts in the noise distribution; below 1, rare words are drawn more often than they occur."""


class SkipGram(nn.Module):
    """Two vectors per word: v as a centre word, u as a context word."""

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.v = nn.Parameter((torch.rand(words, size) - 0.5) / size, requires_grad=False)  # as word2vec
        self.u = nn.Parameter(torch.zeros(words, size), requires_grad=False)

    def forward(self, centre: Tensor, context: Tensor) -> Tensor:
        """(B,) centre words, (B, 1 + K) context word and negative samples -> (B, 1 + K) scores u . v"""
        return (self.u[context] @ self.v[centre].unsqueeze(2)).squeeze(2)


def negative_sampling_loss(scores: Tensor) -> Tensor:
    """(B, 1 + K) scores, the context word's first -> (B,) L in nats"""
    return F.softplus(-scores[:, 0]) + F.softplus(scores[:, 1:]).sum(1)  # -log sigmoid(x) = softplus(-x)


@torch.no_grad()
def train_step(model: SkipGram, centre: Tensor, context: Tensor, learning_rate: float) -> Tensor:
    """Take one step of gradient descent on (B,) centre words and (B, 1 + K) context words; return the mean loss.

    With g = sigmoid(u . v) - y, where y = 1 for the context word and 0 for negative samples: dL/dv = sum g u,
    dL/du = g v. As in word2vec, the gradients of a batch are summed, not averaged.
    """
    v, u = model.v[centre], model.u[context]
    scores = (u @ v.unsqueeze(2)).squeeze(2)
    g = scores.sigmoid()
    g[:, 0] -= 1
    step_v = (g.unsqueeze(1) @ u).squeeze(1)  # (B, D)
    step_u = g.unsqueeze(2) * v.unsqueeze(1)  # (B, 1 + K, D)
    model.v.index_add_(0, centre, step_v, alpha=-learning_rate)
    model.u.index_add_(0, context.flatten(), step_u.flatten(0, 1), alpha=-learning_rate)
    return negative_sampling_loss(scores).mean()


def keep_probability(counts: Tensor, threshold: float) -> Tensor:
    """(V,) counts -> (V,) probability sqrt(t / f) of keeping an occurrence, f its relative frequency (paper, eq. 5)"""
    frequency = counts.double() / counts.sum()
    return (threshold / frequency).sqrt().clamp(max=1)


def noise_distribution(counts: Tensor) -> Tensor:
    """(V,) counts -> (V,) P(n) proportional to count^0.75"""
    weight = counts.double() ** NOISE_POWER
    return weight / weight.sum()


class NoiseSampler:
    """Draws negative samples from the noise distribution."""

    def __init__(self, counts: Tensor) -> None:
        self.cumulative = noise_distribution(counts).cumsum(0)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw words by inverse transform sampling."""
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64) * self.cumulative[-1]
        return torch.searchsorted(self.cumulative, uniform, right=True)


def skip_grams(
    tokens: Tensor, line_numbers: Tensor, keep: Tensor, window: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(N,) tokens and their line numbers, (V,) keep probabilities -> (P,) centre words and (P,) context words

    Frequent words are subsampled first, which widens the context of the others. Each centre word then draws a window
    radius from 1 to `window`, which gives near words more weight. Windows do not cross lines.
    """
    kept = torch.rand(len(tokens), generator=generator, dtype=torch.float64) < keep[tokens]
    tokens, line_numbers = tokens[kept], line_numbers[kept]
    radius = torch.randint(1, window + 1, (len(tokens),), generator=generator)
    centres, contexts = [], []
    for distance in range(1, min(window, len(tokens) - 1) + 1):
        same_line = line_numbers[distance:] == line_numbers[:-distance]
        left, right = tokens[:-distance], tokens[distance:]
        for centre, context, its_radius in ((left, right, radius[:-distance]), (right, left, radius[distance:])):
            paired = same_line & (its_radius >= distance)
            centres.append(centre[paired])
            contexts.append(context[paired])
    empty = tokens[:0]
    return torch.cat([empty, *centres]), torch.cat([empty, *contexts])
