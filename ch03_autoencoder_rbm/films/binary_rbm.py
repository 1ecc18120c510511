"""The book's RBM with binary visible units: 1 for a film that the user gave four stars or more, 0 for all other films.

Unrated films therefore count as not liked. The model ranks films and cannot predict stars. The positive phase uses only
the ones; the reconstruction is a dense (B, V) matrix.

    p(h_j = 1 | v) = sigmoid(b_j + sum_i W_ij v_i),    p(v_i = 1 | h) = sigmoid(a_i + sum_j W_ij h_j)

Dimensions: B cases, M ones of a batch, V visible units, H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.films.sparse import Batch


class BinaryRBM(nn.Module):
    """RBM with binary visible and hidden units; every case contains all films."""

    def __init__(self, units: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(units, hidden_size))  # W (V, H)
        self.visible_bias = nn.Parameter(torch.zeros(units))  # a (V,)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_size))  # b (H,)

    @torch.no_grad()
    def set_visible_bias(self, units: Tensor, cases: int) -> None:
        """Set the visible biases to the log-odds of the ones, with additive smoothing (Hinton 2010, section 8)."""
        share = (units.long().bincount(minlength=len(self.visible_bias)) + 0.5) / (cases + 1)
        self.visible_bias.copy_(share.logit())

    def hidden(self, batch: Batch) -> Tensor:
        """(B, H) p(h = 1 | v); the batch contains the ones of v"""
        return (F.embedding_bag(batch.units, self.weight, batch.starts, mode="sum") + self.hidden_bias).sigmoid()

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, H) hidden states -> (B, V) log-odds of p(v = 1 | h)"""
        return hidden @ self.weight.T + self.visible_bias

    @torch.no_grad()
    def contrastive_divergence(self, batch: Batch, steps: int) -> Tensor:
        """Store the CD-k estimate of the negative gradient in `.grad`; return the loss of CD-1 in nats per case."""
        positive = negative = self.hidden(batch)
        visible, loss = self.visible_bias.new_zeros(batch.cases, len(self.visible_bias)), torch.zeros(())
        for step in range(steps):
            logits = self.logits(negative.bernoulli())
            if step == 0:  # -log p(v | h) summed over films: softplus(logits) - v logits
                loss = (F.softplus(logits).sum() - logits[batch.rows, batch.units].sum()) / batch.cases
            visible = logits.sigmoid().bernoulli()
            negative = (visible @ self.weight + self.hidden_bias).sigmoid()
        scale = 1 / batch.cases
        at_data = torch.zeros_like(self.weight).index_add_(0, batch.units, positive[batch.rows])
        self.weight.grad = (visible.T @ negative - at_data) * scale
        ones = batch.units.bincount(minlength=len(self.visible_bias))
        self.visible_bias.grad = (visible.sum(0) - ones) * scale
        self.hidden_bias.grad = (negative - positive).sum(0) * scale
        return loss
