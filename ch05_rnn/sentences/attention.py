"""Attention: at each step the decoder reads a weighted mean of all encoder states.

A score e_ts compares the decoder state q_t (query) with the encoder state h_s (key and value). Then

    alpha_ts = exp(e_ts) / sum_r exp(e_tr)      attention weights
    c_t      = sum_s alpha_ts h_s               context vector

Padding is masked: its score is -infinity, so its weight is 0.

Dimensions: B batch, T decoder steps, S source positions, H hidden size, D size of the encoder states (H unless given),
A attention size.
"""

import math

import torch
from torch import Tensor, nn


def attend(scores: Tensor, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B, T, S) scores, (B, S, D) states, (B, S) mask, False at padding -> (B, T, D) contexts, (B, T, S) weights"""
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
    alpha = scores.softmax(dim=2)
    return alpha @ states, alpha  # c_t = sum_s alpha_ts h_s


class DotAttention(nn.Module):
    """e_ts = q_t . h_s / sqrt(H)

    Luong, Pham & Manning 2015, section 3.1, "dot", scaled as in Vaswani et al. 2017, equation 1: the standard deviation
    of a dot product grows with sqrt(H), and large scores saturate the softmax.
    """

    def forward(self, queries: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) queries, (B, S, H) states, (B, S) mask -> (B, T, H) contexts, (B, T, S) weights"""
        scores = queries @ states.transpose(1, 2) / math.sqrt(states.shape[2])
        return attend(scores, states, mask)


class AdditiveAttention(nn.Module):
    """e_ts = v . tanh(W q_t + U h_s)

    Bahdanau, Cho & Bengio 2015, appendix A.1.2: a network with one hidden layer, applied to every pair (t, s).
    """

    def __init__(self, hidden_size: int, attention_size: int, state_size: int | None = None) -> None:
        super().__init__()
        self.W = nn.Linear(hidden_size, attention_size)
        self.U = nn.Linear(state_size or hidden_size, attention_size, bias=False)
        self.v = nn.Linear(attention_size, 1, bias=False)

    def forward(
        self, queries: Tensor, states: Tensor, mask: Tensor | None, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, H) queries, (B, S, D) states, (B, S) mask -> (B, T, D) contexts, (B, T, S) weights

        A decoder that attends one step at a time computes the (B, S, A) keys U h_s once and passes them to every step.
        """
        projected = self.U(states) if keys is None else keys
        hidden = torch.tanh(self.W(queries).unsqueeze(2) + projected.unsqueeze(1))  # (B, T, S, A)
        return attend(self.v(hidden).squeeze(3), states, mask)
