"""Skip-gram with negative sampling: a word's vector is what tells its neighbours from words drawn at random.

For a word c, one o that stands near it, and K words n_k of the noise (Mikolov et al. 2013, "Distributed
representations of words and phrases", equation 4), with v the vectors of words in the middle, u those of words around:

    L = -log sigmoid(u_o . v_c) - sum_k log sigmoid(-u_k . v_c)

Dimensions: N tokens, P pairs, B batch, K noise words a pair, V words, D numbers a word.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOISE_POWER = 0.75
"""Noise is drawn as often as a word is counted, to this power: rare words come more often than they are."""


class SkipGram(nn.Module):
    """Two vectors a word: one for it in the middle, one for it among the neighbours."""

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.v = nn.Parameter((torch.rand(words, size) - 0.5) / size, requires_grad=False)  # word2vec's own beginning
        self.u = nn.Parameter(torch.zeros(words, size), requires_grad=False)

    def forward(self, middle: Tensor, around: Tensor) -> Tensor:
        """(B,) words, (B, 1 + K) a neighbour and its noise -> (B, 1 + K) scores u . v"""
        return (self.u[around] @ self.v[middle].unsqueeze(2)).squeeze(2)


def loss_of(scores: Tensor) -> Tensor:
    """(B, 1 + K) scores, the neighbour's first -> (B,) L in nats"""
    return F.softplus(-scores[:, 0]) + F.softplus(scores[:, 1:]).sum(1)  # -log sigmoid(x) = softplus(-x)


@torch.no_grad()
def train_step(model: SkipGram, middle: Tensor, around: Tensor, learning_rate: float) -> Tensor:
    """Take one step of gradient descent for (B,) words and (B, 1 + K) neighbours with noise; return the mean loss.

    With y = 1 for the neighbour and 0 for noise, and g = sigmoid(u . v) - y:  dL/dv = sum g u,  dL/du = g v. Each pair
    takes its own step, as in word2vec: the gradients of a batch are added up, not averaged.
    """
    v, u = model.v[middle], model.u[around]
    scores = (u @ v.unsqueeze(2)).squeeze(2)
    g = scores.sigmoid()
    g[:, 0] -= 1
    step_v = (g.unsqueeze(1) @ u).squeeze(1)  # (B, D)
    step_u = g.unsqueeze(2) * v.unsqueeze(1)  # (B, 1 + K, D)
    model.v.index_add_(0, middle, step_v, alpha=-learning_rate)
    model.u.index_add_(0, around.flatten(), step_u.flatten(0, 1), alpha=-learning_rate)
    return loss_of(scores).mean()


def keep_probability(counts: Tensor, threshold: float) -> Tensor:
    """(V,) counts -> (V,) how likely an occurrence stays: sqrt(t / f), f its share of the text (the paper's eq. 5)"""
    share = counts.double() / counts.sum()
    return (threshold / share).sqrt().clamp(max=1)  # a word that does not occur stays, if it ever does


def noise_distribution(counts: Tensor) -> Tensor:
    """(V,) counts -> (V,) P(n) proportional to count^0.75"""
    weight = counts.double() ** NOISE_POWER
    return weight / weight.sum()


class Noise:
    """Draws words of the noise."""

    def __init__(self, counts: Tensor) -> None:
        self.cumulative = noise_distribution(counts).cumsum(0)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw words: the first whose cumulative probability is above a uniform number."""
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64) * self.cumulative[-1]
        return torch.searchsorted(self.cumulative, uniform, right=True)


def skip_grams(
    tokens: Tensor, lines: Tensor, keep: Tensor, window: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(N,) words and the lines they stand in, (V,) keep probabilities -> (P,) middles and (P,) neighbours, in order

    Frequent words are left out first, so that those which remain see farther; then each word draws how far it looks,
    1 to window, so that near neighbours count more. Nobody looks into another line.
    """
    stay = torch.rand(len(tokens), generator=generator, dtype=torch.float64) < keep[tokens]
    tokens, lines = tokens[stay], lines[stay]
    reach = torch.randint(1, window + 1, (len(tokens),), generator=generator)
    middles, neighbours = [], []
    for distance in range(1, min(window, len(tokens) - 1) + 1):
        together = lines[distance:] == lines[:-distance]
        left, right = tokens[:-distance], tokens[distance:]
        for middle, neighbour, its_reach in ((left, right, reach[:-distance]), (right, left, reach[distance:])):
            seen = together & (its_reach >= distance)
            middles.append(middle[seen])
            neighbours.append(neighbour[seen])
    nothing = tokens[:0]
    return torch.cat([nothing, *middles]), torch.cat([nothing, *neighbours])
