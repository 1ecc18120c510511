"""RBM with Gaussian visible units for the residuals of the user and film biases.

v_i is the residual of a rating divided by the standard deviation of the residuals. All sums exclude units without a
rating. With r_i = 1 for a rated unit and the weights D of the conditional RBM:

    p(h_j = 1 | v, r) = sigmoid(b_j + sum_i W_ij v_i + sum_i r_i D_ij)
    p(v_i | h)        = N(a_i + sum_j W_ij h_j, 1)

Source: Hinton (2010), A Practical Guide to Training Restricted Boltzmann Machines, section 13.2, with unit variances.

Dimensions: B cases, M ratings of a batch, V visible units, H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.films.sparse import Batch, zero_gradient


class GaussianRBM(nn.Module):
    """RBM with Gaussian visible units of variance 1 and binary hidden units."""

    def __init__(self, units: int, hidden_size: int, *, conditional: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(units, hidden_size))  # W (V, H)
        self.rated_weight = nn.Parameter(torch.zeros(units, hidden_size)) if conditional else None  # D (V, H)
        self.visible_bias = nn.Parameter(torch.zeros(units))  # a (V,)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_size))  # b (H,)

    def hidden(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        """(B, H) p(h = 1 | v) for the residuals of the batch, or for other values (M,)"""
        chosen = batch.values if values is None else values
        total = self.hidden_bias + F.embedding_bag(
            batch.units, self.weight, batch.starts, mode="sum", per_sample_weights=chosen
        )
        if self.rated_weight is not None:
            total = total + F.embedding_bag(batch.units, self.rated_weight, batch.starts, mode="sum")
        return total.sigmoid()

    def mean(self, units: Tensor, hidden: Tensor, rows: Tensor) -> Tensor:
        """(M,) units, (B, H) hidden states, (M,) row of `hidden` for each unit -> (M,) mean of p(v | h)"""
        return self.visible_bias[units] + (self.weight[units] * hidden[rows]).sum(1)

    @torch.no_grad()
    def contrastive_divergence(self, batch: Batch, steps: int) -> Tensor:
        """Store the CD-k estimate of the negative gradient in `.grad`; return the mean squared error of CD-1."""
        units, rows = batch.units, batch.rows
        positive = negative = self.hidden(batch)
        values, loss = batch.values, torch.zeros(())
        for step in range(steps):
            mean = self.mean(units, negative.bernoulli(), rows)
            if step == 0:
                loss = F.mse_loss(mean, batch.values)
            values = mean + torch.randn_like(mean)
            negative = self.hidden(batch, values)
        scale = 1 / max(1, len(units))  # mean over the ratings
        moment = values.unsqueeze(1) * negative[rows] - batch.values.unsqueeze(1) * positive[rows]
        zero_gradient(self.weight).index_add_(0, units, moment, alpha=scale)
        zero_gradient(self.visible_bias).index_add_(0, units, values - batch.values, alpha=scale)
        self.hidden_bias.grad = (negative - positive).sum(0) * scale
        if self.rated_weight is not None:
            difference = (negative - positive)[rows]
            zero_gradient(self.rated_weight).index_add_(0, units, difference, alpha=scale)
        return loss
