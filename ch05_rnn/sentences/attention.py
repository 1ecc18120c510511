"""Attention: at each step the decoder looks at every state of the encoder, and takes from each as much as it scores.

A score e_ts says how well the decoder's state q_t and the encoder's state h_s go together. Then

    alpha_ts = exp(e_ts) / sum_r exp(e_tr)      the weights: how much step t takes of place s
    c_t      = sum_s alpha_ts h_s               the context: what it takes

and padding scores -infinity: nothing is taken of it.

Dimensions: B batch, T steps of the decoder, S places of the source, H features of a state, A attention features.
"""

import math

import torch
from torch import Tensor, nn


def attend(scores: Tensor, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, S) scores, (B, S, H) states, (B, S) True but at the padding -> (B, T, H) contexts, (B, T, S) weights"""
    alpha = scores.masked_fill(~real.unsqueeze(1), -math.inf).softmax(dim=2)
    return alpha @ states, alpha  # c_t = sum_s alpha_ts h_s


class DotAttention(nn.Module):
    """e_ts = q_t . h_s / sqrt(H)

    Luong, Pham & Manning 2015, section 3.1, "dot"; the root is that of Vaswani et al. 2017, equation 1: a sum of H
    products grows with the root of H, and large scores make a softmax that no gradient gets through.
    """

    def forward(self, queries: Tensor, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) queries, (B, S, H) states, (B, S) mask -> (B, T, H) contexts, (B, T, S) weights"""
        scores = queries @ states.transpose(1, 2) / math.sqrt(states.shape[2])
        return attend(scores, states, real)


class AdditiveAttention(nn.Module):
    """e_ts = v . tanh(W q_t + U h_s)

    Bahdanau, Cho & Bengio 2015, appendix A.1.2: a network with one hidden layer, which looks at every pair (t, s).
    """

    def __init__(self, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        self.W = nn.Linear(hidden_size, attention_size)
        self.U = nn.Linear(hidden_size, attention_size, bias=False)
        self.v = nn.Linear(attention_size, 1, bias=False)

    def forward(self, queries: Tensor, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) queries, (B, S, H) states, (B, S) mask -> (B, T, H) contexts, (B, T, S) weights"""
        hidden = torch.tanh(self.W(queries).unsqueeze(2) + self.U(states).unsqueeze(1))  # (B, T, S, A)
        return attend(self.v(hidden).squeeze(3), states, real)
