"""What estimates Q(s, a), what can still be had after action a in state s: the book's network, and better ones.

Networks for one maze are asked with the numbers of its tiles, those for any maze with its picture.

Dimensions: B batch, A = 4 actions, H x W tiles, S = H W states, D hidden units, C channels.
"""

import torch
from torch import Tensor, nn

from common.data.mazes.maze import MOVES

ACTIONS = len(MOVES)


class BookNetwork(nn.Module):
    """The book's network 4-128-128-1 over (x, y, dx, dy): one number for a state and an action.

    To find the best action it is asked once for each. Raw coordinates make its task hard: left and right of a wall are
    nearly the same input, and a world apart.
    """

    moves: Tensor

    def __init__(self, shape: tuple[int, int], hidden_size: int = 128) -> None:
        super().__init__()
        self.width = shape[1]
        self.layers = nn.Sequential(
            nn.Linear(4, hidden_size),
            nn.Tanh(),
            nn.Linear(hidden_size, hidden_size),
            nn.Tanh(),
            nn.Linear(hidden_size, 1),
        )
        self.register_buffer("moves", torch.tensor([(right, down) for down, right in MOVES]).float(), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """(B,) states -> (B, A) values"""
        places = torch.stack([states % self.width, states // self.width], dim=1).float()  # (B, 2) x, y
        pairs = [places.unsqueeze(1).expand(-1, ACTIONS, -1), self.moves.expand(len(states), -1, -1)]
        return self.layers(torch.cat(pairs, dim=2)).squeeze(2)


class QNetwork(nn.Module):
    """All four values at once, from a one-hot row and a one-hot column: H + W -> D -> D -> A.

    Dueling (Wang et al. 2016): Q(s, a) = V(s) + A(s, a) - mean over a of A(s, a), so that what a state is worth is
    learned from every action that is tried there.
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
        """(B,) states -> (B, A) values"""
        h = self.trunk(self.features[states])
        a = self.advantage(h)
        return a if self.value is None else self.value(h) + a - a.mean(1, keepdim=True)


class ActorCritic(nn.Module):
    """A policy and the value of following it, over one trunk like QNetwork's."""

    features: Tensor

    def __init__(self, shape: tuple[int, int], hidden_size: int = 128) -> None:
        super().__init__()
        body = QNetwork(shape, hidden_size)
        self.register_buffer("features", body.features, persistent=False)  # a plain attribute would stay on the CPU
        self.trunk, self.policy = body.trunk, body.advantage
        self.value = nn.Linear(hidden_size, 1)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) states -> (B, A) logits, (B,) values"""
        h = self.trunk(self.features[states])
        return self.policy(h), self.value(h).squeeze(-1)
