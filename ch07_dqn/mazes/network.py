"""Networks for one maze: the Q-network, plain or dueling, and the actor-critic. Their input is a state number.

Dimensions: B batch, A = 4 actions, H x W tiles, S = H W states, D hidden units.
"""

import torch
from torch import Tensor, nn

from common.data.mazes.maze import MOVES

ACTIONS = len(MOVES)


class QNetwork(nn.Module):
    """Q-values of all actions, from a one-hot row and a one-hot column: H + W -> D -> D -> A.

    Dueling (Wang et al. 2016): Q(s, a) = V(s) + A(s, a) - mean over a of A(s, a), so every transition from a state
    trains V(s), for any action.
    """

    features: Tensor

    def __init__(self, shape: tuple[int, int], hidden_size: int = 128, *, dueling: bool = False) -> None:
        super().__init__()
        height, width = shape
        rows, columns = torch.eye(height).repeat_interleave(width, 0), torch.eye(width).repeat(height, 1)
        self.register_buffer("features", torch.cat([rows, columns], dim=1), persistent=False)  # (S, H + W)
        self.trunk = nn.Sequential(
            nn.Linear(height + width, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size), nn.ReLU()
        )
        self.advantage = nn.Linear(hidden_size, ACTIONS)
        self.value = nn.Linear(hidden_size, 1) if dueling else None

    def forward(self, states: Tensor) -> Tensor:
        """(B,) states -> (B, A) Q-values"""
        h = self.trunk(self.features[states])
        a = self.advantage(h)
        return a if self.value is None else self.value(h) + a - a.mean(1, keepdim=True)


class ActorCritic(nn.Module):
    """Actor-critic network: logits of the policy and a state value, with the trunk of QNetwork."""

    features: Tensor

    def __init__(self, shape: tuple[int, int], hidden_size: int = 128) -> None:
        super().__init__()
        body = QNetwork(shape, hidden_size)
        self.register_buffer("features", body.features, persistent=False)  # moves to the device with the model
        self.trunk, self.policy = body.trunk, body.advantage
        self.value = nn.Linear(hidden_size, 1)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) states -> (B, A) logits of the policy, (B,) state values"""
        h = self.trunk(self.features[states])
        return self.policy(h), self.value(h).squeeze(-1)
