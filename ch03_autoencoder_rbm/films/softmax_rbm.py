"""RBM with softmax visible units for ratings (Salakhutdinov, Mnih & Hinton 2007).

A case contains the ratings of one user. Its visible units are the films that the user rated, each with one of K rating
levels. All sums exclude unrated films. With binary hidden units h, and r_i = 1 for a rated film:

    p(h_j = 1 | v, r) = sigmoid(b_j + sum_i W_{i, v_i, j} + sum_i r_i D_ij)                     (equations 2 and 10)
    p(v_i = k | h)    = softmax over k of (a_ik + sum_j W_ikj h_j)                              (equation 1)

D are the weights of the conditional RBM, whose hidden units also depend on the set of rated films. With films as cases,
users and films are exchanged.

Source: Salakhutdinov, Mnih & Hinton (2007), Restricted Boltzmann Machines for Collaborative Filtering.

Dimensions: B cases, M ratings of a batch, V visible units, K levels, H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.films.sparse import Batch, zero_gradient

CHUNK = 4_096
"""Number of ratings whose weights are gathered at once, as a (CHUNK, K, H) tensor: 16 MB with 10 levels, 100 units."""


class SoftmaxRBM(nn.Module):
    """RBM with softmax visible units and binary hidden units; all cases share the weights."""

    def __init__(self, units: int, levels: int, hidden_size: int, *, conditional: bool = True) -> None:
        super().__init__()
        self.levels = levels
        self.weight = nn.Parameter(0.01 * torch.randn(units, levels, hidden_size))  # W (V, K, H)
        self.rated_weight = nn.Parameter(torch.zeros(units, hidden_size)) if conditional else None  # D (V, H)
        self.visible_bias = nn.Parameter(torch.zeros(units, levels))  # a (V, K)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_size))  # b (H,)

    @torch.no_grad()
    def set_visible_bias(self, units: Tensor, levels: Tensor, prior: float = 10.0) -> None:
        """Set the visible biases to log frequencies of each unit's levels, smoothed with `prior` average ratings."""
        count = torch.zeros_like(self.visible_bias)
        count.view(-1).index_add_(0, units.long() * self.levels + levels.long(), count.new_ones(len(units)))
        average = (count.sum(0) + 1) / (count.sum() + self.levels)
        self.visible_bias.copy_((count + prior * average).div(count.sum(1, keepdim=True) + prior).log())

    def hidden(self, batch: Batch, levels: Tensor | None = None) -> Tensor:
        """(B, H) p(h = 1 | v) for the levels of the batch, or for other levels (M,)"""
        chosen = batch.units * self.levels + (batch.values if levels is None else levels)
        total = F.embedding_bag(chosen, self.weight.flatten(0, 1), batch.starts, mode="sum") + self.hidden_bias
        if self.rated_weight is not None:
            total = total + F.embedding_bag(batch.units, self.rated_weight, batch.starts, mode="sum")
        return total.sigmoid()

    def logits(self, units: Tensor, hidden: Tensor, rows: Tensor) -> Tensor:
        """(M,) units, (B, H) hidden states, (M,) row of `hidden` for each unit -> (M, K) logits of p(v | h)"""
        parts = [
            torch.bmm(self.weight[unit], hidden[row].unsqueeze(2)).squeeze(2)
            for unit, row in zip(units.split(CHUNK), rows.split(CHUNK), strict=True)
        ]
        return torch.cat(parts) + self.visible_bias[units]

    @torch.no_grad()
    def contrastive_divergence(self, batch: Batch, steps: int) -> Tensor:
        """Store the CD-k estimate of the negative gradient in `.grad`; return the reconstruction loss of CD-1.

        With the mean <.>_0 over the data and <.>_k after k Gibbs steps, the gradient of the log-likelihood is
        approximately <v h>_0 - <v h>_k (Hinton 2002). Gradient and loss (in nats) are means over the ratings.
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
            negative = self.hidden(batch, levels)  # not sampled: probabilities give less noise

        at_data, at_model = units * self.levels + batch.values, units * self.levels + levels
        scale = 1 / max(1, len(units))  # mean over the ratings
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
    """(M, K) logits -> (M,) levels sampled from the softmax of each row, by inversion of its cumulative distribution"""
    below = logits.softmax(1).cumsum(1)[:, :-1]
    return (below < torch.rand(len(logits), 1, device=logits.device)).sum(1)
