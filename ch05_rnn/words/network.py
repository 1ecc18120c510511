"""The network of word2vec and fastText: input vectors, output vectors, and one gradient step, written out by hand.

The hidden vector h is the mean of the input vectors of a bag: the centre word (skip-gram), the context words (CBOW), or
the n-grams of the centre word (fastText). A target word is predicted by several binary decisions. Decision j has an
output vector u_j and a label y_j, and its probability is sigmoid(u_j . h). The loss is their cross-entropy:

    L = - sum_j  y_j log sigmoid(u_j . h) + (1 - y_j) log sigmoid(-u_j . h)

With negative sampling, the decisions are the target word (y = 1) and K random words (y = 0), which gives equation 4 of
Mikolov et al. 2013, "Distributed representations of words and phrases". With hierarchical softmax they are the branches
on the way to the target word in a tree (huffman.py).

Dimensions: B bags, M elements of all bags, P targets, J decisions per target, K negative samples, V vocabulary size,
D vector size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.words.contexts import Bags, Examples

NOISE_POWER = 0.75
"""Exponent of the word counts in the noise distribution; below 1, rare words are drawn more often than they occur."""

MOST_SUMMED = 16
"""Number of gradients of one vector whose sum a step may take."""


@dataclass(frozen=True)
class Decisions:
    """The binary decisions that predict P target words."""

    outputs: Tensor
    """(P, J) rows of the output vectors"""
    labels: Tensor
    """(P, J) or (1, J) labels y, 1 or 0"""
    mask: Tensor | None = None
    """(P, J) 0 for a decision that does not exist; None: all exist"""

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
    Stratos 2021.) The gradients of a batch are summed, not averaged, up to a limit: see `add_rows_`.
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
    """Add each of the (M, D) rows that exist, by (M,) 1 or 0, to its row of the table; others must be zero.

    Rows with the same index are summed. If there are more than 16, they count as 16 times their mean: word2vec takes
    these steps one after the other, each from where the last one led, and their sum would overshoot. The root of the
    tree of hierarchical softmax, for example, is on the path of every target.
    """
    counts = table.new_zeros(len(table)).scatter_add_(0, index, exists).clamp_(min=1)
    weight = (MOST_SUMMED / counts).clamp(max=1).index_select(0, index)
    # scatter_add_ with an expanded index was faster on a CPU than index_add_
    table.scatter_add_(0, index.unsqueeze(1).expand_as(rows), rows * weight.unsqueeze(1))


def noise_distribution(counts: Tensor) -> Tensor:
    """(V,) counts -> (V,) P(n) proportional to count^0.75"""
    weight = counts.double() ** NOISE_POWER
    return weight / weight.sum()


class NegativeSampling:
    """Decisions of a target word: itself against K words that are drawn from the noise distribution.

    Words are drawn by the alias method (Walker 1977; Vose 1991): a uniformly drawn slot holds two words, of which the
    first is taken with a probability of its own. This takes the same time for every vocabulary size.
    """

    def __init__(self, counts: Tensor, negatives: int) -> None:
        self.outputs, self.negatives = len(counts), negatives
        self.labels = torch.zeros(1, 1 + negatives)
        self.labels[0, 0] = 1
        self.first, self.other = _alias_table(noise_distribution(counts))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw words from the noise distribution."""
        slot = torch.randint(len(self.first), shape, generator=generator)
        is_first = torch.rand(shape, generator=generator, dtype=torch.float64) < self.first[slot]
        return torch.where(is_first, slot, self.other[slot])

    def decisions(self, targets: Tensor, generator: torch.Generator) -> Decisions:
        """(P,) target words -> their decisions, with J = 1 + K"""
        negatives = self.draw((len(targets), self.negatives), generator)
        return Decisions(torch.cat([targets.unsqueeze(1), negatives], dim=1), self.labels)


def _alias_table(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """(V,) probabilities -> (V,) probability of the slot's own word, (V,) the other word of the slot"""
    share = (probabilities * len(probabilities)).tolist()  # of a slot, which holds 1
    other = list(range(len(share)))
    small = [word for word, its in enumerate(share) if its < 1]
    large = [word for word, its in enumerate(share) if its >= 1]
    while small and large:
        filled, giver = small.pop(), large[-1]
        other[filled] = giver
        share[giver] -= 1 - share[filled]
        if share[giver] < 1:
            small.append(large.pop())
    return torch.tensor(share, dtype=torch.float64), torch.tensor(other)
