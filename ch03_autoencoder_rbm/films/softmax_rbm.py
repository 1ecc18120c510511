"""The restricted Boltzmann machine over ratings: a softmax visible unit a film, and only rated films take part.

Salakhutdinov, Mnih & Hinton (2007), "Restricted Boltzmann machines for collaborative filtering". A case is what one
user rated. Its visible units are the films of that user, each in one of K levels; films that were not rated are absent,
neither liked nor disliked. With h binary hidden units, and r_i = 1 where film i was rated:

    p(h_j = 1 | v, r) = sigmoid(b_j + sum_i W_{i, v_i, j} + sum_i r_i D_ij)                     (equations 2 and 10)
    p(v_i = k | h)    = softmax over k of (a_ik + sum_j W_ikj h_j)                              (equation 1)

D is the conditional variant: which films somebody chose to rate says something before the first star does. The same
machine with the roles exchanged has a case a film and a visible unit a user.

Dimensions: B cases, M ratings of a batch, V units, K levels, H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.films.sparse import Batch, zero_gradient

CHUNK = 4_096
"""Ratings whose weights are gathered at once: (CHUNK, K, H) numbers, a size that caches hold."""


class SoftmaxRBM(nn.Module):
    """Softmax visible units, binary hidden units, one set of weights for every case."""

    def __init__(self, units: int, levels: int, hidden_size: int, *, conditional: bool = True) -> None:
        super().__init__()
        self.levels = levels
        self.weight = nn.Parameter(0.01 * torch.randn(units, levels, hidden_size))  # W (V, K, H)
        self.rated_weight = nn.Parameter(torch.zeros(units, hidden_size)) if conditional else None  # D (V, H)
        self.visible_bias = nn.Parameter(torch.zeros(units, levels))  # a (V, K)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_size))  # b (H,)

    @torch.no_grad()
    def set_visible_bias(self, units: Tensor, levels: Tensor, prior: float = 10.0) -> None:
        """Start each unit at the log of its own frequencies, with as many ratings of the average unit added."""
        count = torch.zeros_like(self.visible_bias)
        count.view(-1).index_add_(0, units.long() * self.levels + levels.long(), count.new_ones(len(units)))
        usual = (count.sum(0) + 1) / (count.sum() + self.levels)
        self.visible_bias.copy_((count + prior * usual).div(count.sum(1, keepdim=True) + prior).log())

    def hidden(self, batch: Batch, levels: Tensor | None = None) -> Tensor:
        """(B, H) p(h = 1 | v) for the batch's own levels, or for others (M,) in their place"""
        chosen = batch.units * self.levels + (batch.values if levels is None else levels)
        total = F.embedding_bag(chosen, self.weight.flatten(0, 1), batch.starts, mode="sum") + self.hidden_bias
        if self.rated_weight is not None:
            total = total + F.embedding_bag(batch.units, self.rated_weight, batch.starts, mode="sum")
        return total.sigmoid()

    def logits(self, units: Tensor, hidden: Tensor, rows: Tensor) -> Tensor:
        """(M,) units, (B, H) hidden states, (M,) the state that each unit belongs to -> (M, K)"""
        parts = [
            torch.bmm(self.weight[unit], hidden[row].unsqueeze(2)).squeeze(2)
            for unit, row in zip(units.split(CHUNK), rows.split(CHUNK), strict=True)
        ]
        return torch.cat(parts) + self.visible_bias[units]

    @torch.no_grad()
    def contrastive_divergence(self, batch: Batch, steps: int) -> Tensor:
        """Put the CD-k estimate of the gradient into `.grad`; return the first reconstruction's loss, nats a rating.

        With <.>_0 at the data and <.>_k after k steps of Gibbs sampling, the log-likelihood's gradient is about
        <v h>_0 - <v h>_k (Hinton 2002); `.grad` is its negative, a mean over the ratings.
        """
        units, rows = batch.units, batch.rows
        positive = negative = self.hidden(batch)
        levels = batch.values
        loss = torch.zeros(())
        for step in range(steps):
            logits = self.logits(units, negative.bernoulli(), rows)
            if step == 0:
                loss = F.cross_entropy(logits, batch.values)
            levels = sample_levels(logits)
            negative = self.hidden(batch, levels)  # probabilities: sampling them would only add noise

        at_data, at_model = units * self.levels + batch.values, units * self.levels + levels
        scale = 1 / max(1, len(units))  # a mean over the ratings
        weight, visible = zero_gradient(self.weight), zero_gradient(self.visible_bias)
        for part in torch.arange(len(units), device=units.device).split(CHUNK):
            row = rows[part]
            weight.view(-1, weight.shape[2]).index_add_(0, at_data[part], positive[row], alpha=-scale)
            weight.view(-1, weight.shape[2]).index_add_(0, at_model[part], negative[row], alpha=scale)
        one = visible.new_ones(len(units))
        visible.view(-1).index_add_(0, at_data, one, alpha=-scale).index_add_(0, at_model, one, alpha=scale)
        self.hidden_bias.grad = (negative - positive).sum(0) * scale
        if self.rated_weight is not None:
            difference = (negative - positive)[rows]
            zero_gradient(self.rated_weight).index_add_(0, units, difference, alpha=scale)
        return loss


def sample_levels(logits: Tensor) -> Tensor:
    """(M, K) -> (M,) a level drawn from each softmax: where a uniform number falls in the cumulative distribution"""
    below = logits.softmax(1).cumsum(1)[:, :-1]
    return (below < torch.rand(len(logits), 1, device=logits.device)).sum(1)
