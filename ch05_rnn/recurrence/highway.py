"""Recurrent highway layer (Zilly et al. 2017): several nonlinear layers per time step.

An LSTM applies one layer of gates per step. Here the state passes L highway layers, with s_0 = h_{t-1}:

    h_l = tanh   ([l = 1] W_H x_t + R_Hl s_{l-1} + b_Hl)    candidate
    g_l = sigmoid([l = 1] W_T x_t + R_Tl s_{l-1} + b_Tl)    transform gate
    s_l = g_l h_l + (1 - g_l) s_{l-1}                       the carry gate is 1 - g_l

and h_t = s_L (equations 6 to 9, with coupled gates as in the paper's experiments). Where g_l is close to 0, state and
gradient pass a layer unchanged.

Variational dropout (Gal & Ghahramani 2016): one mask for the state, the same at all steps and layers, applied where the
state is multiplied by R, and not where it is carried.

Dimensions: T steps, B batch, I inputs, H hidden units, L depth.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.recurrence.cells import State

GATE_BIAS = -2.0
"""Initial bias of the transform gates: sigmoid(-2) = 0.12, so at first a layer carries most of the state."""


class HighwayLayer(nn.Module):
    """L highway layers per time step, in a loop over time with autograd."""

    def __init__(self, input_size: int, hidden_size: int, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.input = nn.Linear(input_size, 2 * hidden_size, bias=False)  # W_H and W_T
        self.layers = nn.ModuleList(nn.Linear(hidden_size, 2 * hidden_size) for _ in range(depth))  # R_l, b_l
        for layer in self.layers:
            nn.init.constant_(layer.bias[hidden_size:], GATE_BIAS)  # pyright: ignore[reportIndexIssue, reportArgumentType]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, I) inputs and the initial state -> (T, B, H) hidden states and the final state"""
        (s,) = state
        mask = self.recurrent_mask(s)
        hidden = []
        for projected in self.input(x):
            s = self.step(projected, s, mask)
            hidden.append(s)
        return torch.stack(hidden), (s,)

    def recurrent_mask(self, s: Tensor) -> Tensor:
        """(B, H) state -> (B, H) dropout mask of a sequence, scaled by 1 / (1 - p); ones in evaluation"""
        return F.dropout(torch.ones_like(s), self.dropout, self.training)

    def step(self, projected: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        """(B, 2H) projected input, (B, H) state and mask -> (B, H) next state"""
        for number, layer in enumerate(self.layers):
            z = layer(s * mask)
            h, g = (z if number else z + projected).chunk(2, 1)
            s = torch.lerp(s, torch.tanh(h).to(s.dtype), torch.sigmoid(g).to(s.dtype))  # g h + (1 - g) s
        return s
