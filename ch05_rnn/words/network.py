"""The network of word2vec and fastText: input and output vectors, and the gradient step, by hand.

The hidden vector h is the mean of the input vectors of a bag: the centre word (skip-gram), the context words (CBOW), or
the n-grams of the centre word (fastText). A target word is predicted by several binary decisions. Decision j has an
output vector u_j and a label y_j, and its probability is sigmoid(u_j . h). The loss is their cross-entropy:

    L = - sum_j  y_j log sigmoid(u_j . h) + (1 - y_j) log sigmoid(-u_j . h)

With negative sampling, the decisions are the target word (y = 1) and K random words (y = 0); L is then equation 4 of
Mikolov et al. 2013, "Distributed representations of words and phrases". With hierarchical softmax, they are the
branches on the path to the target word in a tree (huffman.py).

Dimensions: B bags, M elements of all bags, P targets, J decisions per target, K negative samples, V vocabulary size,
D vector size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.words.contexts import Bags, Examples

NOISE_POWER = 0.75
"""Exponent of the word counts in the noise distribution; below 1, it gives rare words more than their share."""

MOST_SUMMED = 16
"""Largest number of gradients that are summed in one step of a vector; see `add_rows_`."""


@dataclass(frozen=True)
class Decisions:
    """The binary decisions that predict P target words."""

    outputs: Tensor
    """(P, J) rows of the output vectors"""
    labels: Tensor
    """(P, J) or (1, J) labels y, 1 or 0"""
    mask: Tensor | None = None
    """(P, J) 0 for padding, otherwise 1; None: no padding"""

    def to(self, device: torch.device) -> "Decisions":
        """Copy the decisions to a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return Decisions(self.outputs.to(device), self.labels.to(device), mask)


class WordVectors(nn.Module):
    """Input vectors v and output vectors u."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.v = nn.Parameter((torch.rand(inputs, size) - 0.5) / size, requires_grad=False)  # as word2vec
        self.u = nn.Parameter(torch.zeros(outputs, size), requires_grad=False)

    def hidden(self, bags: Bags) -> Tensor:
        """B bags -> (B, D) hidden vectors h"""
        return F.embedding_bag(bags.elements, self.v, bags.starts, mode="mean")

    def forward(self, examples: Examples, decisions: Decisions) -> Tensor:
        """Examples with P targets, and their decisions -> (P, J) scores u . h"""
        h = self.hidden(examples.inputs)[examples.targets.owners()]
        return (F.embedding(decisions.outputs, self.u) @ h.unsqueeze(2)).squeeze(2)


def decision_loss(scores: Tensor, decisions: Decisions) -> Tensor:
    """(P, J) scores -> (P,) L in nats"""
    losses = F.softplus(scores) - decisions.labels * scores  # -log sigmoid(x) = softplus(x) - x
    return (losses if decisions.mask is None else losses * decisions.mask).sum(1)


@torch.no_grad()
def train_step(model: WordVectors, examples: Examples, decisions: Decisions, learning_rate: float) -> Tensor:
    """Take one step of gradient descent; return the mean loss per target.

    With g_j = sigmoid(u_j . h) - y_j: dL/du_j = g_j h and dL/dh = sum_j g_j u_j, summed over the targets of a bag. Each
    of the n elements of a bag receives dL/dv = (dL/dh) / n. (word2vec.c omits the factor 1 / n; see İrsoy, Benton &
    Stratos 2021.) The gradients of a batch are summed, not averaged, with a limit: see `add_rows_`.
    """
    inputs, owners = examples.inputs, examples.targets.owners()
    h = model.hidden(inputs)  # (B, D)
    h_p = h.index_select(0, owners)  # (P, D)
    u = F.embedding(decisions.outputs, model.u)  # (P, J, D)
    scores = (u @ h_p.unsqueeze(2)).squeeze(2)
    exists = torch.ones_like(scores) if decisions.mask is None else decisions.mask.to(scores)
    step = -learning_rate * (scores.sigmoid() - decisions.labels) * exists  # -learning_rate g
    step_h = torch.zeros_like(h).index_add_(0, owners, (step.unsqueeze(1) @ u).squeeze(1))
    step_u = step.unsqueeze(2) * h_p.unsqueeze(1)  # (P, J, D)
    step_v = (step_h / inputs.sizes.unsqueeze(1)).index_select(0, inputs.owners())  # (M, D)
    add_rows_(model.u, decisions.outputs.flatten(), step_u.flatten(0, 1), exists.flatten())
    add_rows_(model.v, inputs.elements, step_v, torch.ones_like(step_v[:, 0]))
    return decision_loss(scores, decisions).mean()


def add_rows_(table: Tensor, index: Tensor, rows: Tensor, exists: Tensor) -> None:
    """Add (M, D) rows to the rows of the table with (M,) numbers `index`; `exists` is (M,) 0 for padding, otherwise 1.

    Rows with the same index are summed; more than 16 are replaced by 16 times their mean. word2vec takes these steps
    one after the other, each with a new gradient. All gradients of a batch belong to the same vectors, and the sum of
    hundreds of them can be too large a step: the root of the tree of hierarchical softmax is on every path.
    """
    counts = table.new_zeros(len(table)).scatter_add_(0, index, exists).clamp_(min=1)
    weight = (MOST_SUMMED / counts).clamp(max=1).index_select(0, index)
    # with an expanded index, scatter_add_ was faster on a CPU than index_add_
    table.scatter_add_(0, index.unsqueeze(1).expand_as(rows), rows * weight.unsqueeze(1))


def noise_distribution(counts: Tensor) -> Tensor:
    """(V,) counts -> (V,) P(n) proportional to count^0.75"""
    weight = counts.double() ** NOISE_POWER
    return weight / weight.sum()


class NegativeSampling:
    """Decisions of a target word: the word itself, and K negative samples from the noise distribution.

    They are sampled by the alias method (Walker 1977; Vose 1991): each of V slots contains two words and the
    probability of the first one. A slot is sampled uniformly, then one of its words. The time does not depend on V.
    """

    def __init__(self, counts: Tensor, negatives: int) -> None:
        self.outputs, self.negatives = len(counts), negatives
        self.labels = torch.zeros(1, 1 + negatives)
        self.labels[0, 0] = 1
        self.first, self.other = _alias_table(noise_distribution(counts))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Sample words from the noise distribution."""
        slot = torch.randint(len(self.first), shape, generator=generator)
        is_first = torch.rand(shape, generator=generator, dtype=torch.float64) < self.first[slot]
        return torch.where(is_first, slot, self.other[slot])

    def decisions(self, targets: Tensor, generator: torch.Generator) -> Decisions:
        """(P,) target words -> their decisions, with J = 1 + K"""
        negatives = self.draw((len(targets), self.negatives), generator)
        return Decisions(torch.cat([targets.unsqueeze(1), negatives], dim=1), self.labels)


def _alias_table(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """(V,) probabilities -> (V,) probability of word n in slot n, (V,) the other word of the slot

    Each word has V times its probability to distribute, each slot room for 1. The slot of a word with less than 1 is
    filled up by a word with more.
    """
    mass = (probabilities * len(probabilities)).tolist()
    other = list(range(len(mass)))
    small = [word for word, own in enumerate(mass) if own < 1]
    large = [word for word, own in enumerate(mass) if own >= 1]
    while small and large:
        filled, giver = small.pop(), large[-1]
        other[filled] = giver
        mass[giver] -= 1 - mass[filled]
        if mass[giver] < 1:
            small.append(large.pop())
    return torch.tensor(mass, dtype=torch.float64), torch.tensor(other)
