"""Networks for all mazes: they map the picture of a maze to the Q-values of all of its tiles.

The planner is a value iteration network (Tamar et al. 2016): it learns a local model of the environment, and computes
Q-values by iterating the Bellman update with it. From the 3 x 3 tiles around each tile it predicts

    r      reward for entering the tile
    c      discount of the value after entering it; 0 at the exit, which is terminal
    o[a]   probability that action a moves the agent, rather than being blocked by a wall

and for each action a 3 x 3 kernel P[a], the distribution of its next tile. One iteration computes

    u = r + c V                                value of entering a tile
    Q[a] = o[a] (P[a] * u) + (1 - o[a]) c V    * is a convolution; a blocked agent stays where it is
    V = max over a of Q[a]                     repeated as often as the path is long

Walls, the effects of the actions and the reward of the exit are learned from rewards. The architecture assumes that the
rules are the same on all tiles, that they depend on neighbouring tiles only, and that values satisfy the Bellman
equation. Larger mazes need more iterations, not other weights.

Dimensions: B mazes, A = 4 actions, H x W tiles, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch07_dqn.network import ACTIONS

PLANES = 2
"""Input channels: floor and exit. Zero padding beyond the border looks like a wall."""


def planes_of(walls: Tensor, exits: Tensor) -> Tensor:
    """(B, H, W) bool walls, (B,) states of the exits, numbered over the batch -> (B, 2, H, W) pictures"""
    goal = torch.zeros(walls.numel(), device=walls.device).index_fill_(0, exits, 1.0)
    return torch.stack([(~walls).float(), goal.view(walls.shape)], dim=1)


class Planner(nn.Module):
    """Value iteration network: predicts the model of the environment from the picture and iterates with it."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Conv2d(PLANES, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 2 + ACTIONS, 1)
        )
        self.moves = nn.Parameter(torch.randn(ACTIONS, 9))

    def rules(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 2, H, W) pictures -> r and c (B, 1, H, W), o (B, A, H, W), and P (A, 1, 3, 3)"""
        r, c, o = self.read(picture).split([1, 1, ACTIONS], dim=1)
        return r, c.sigmoid(), o.sigmoid(), self.moves.softmax(1).view(ACTIONS, 1, 3, 3)

    def sweep(self, q: Tensor, r: Tensor, c: Tensor, o: Tensor, moves: Tensor) -> Tensor:
        """(B, A, H, W) Q-values and the rules -> (B, A, H, W) Q-values with a horizon of one step more"""
        discounted = c * q.amax(1, keepdim=True)
        return torch.lerp(discounted.expand_as(o), F.conv2d(r + discounted, moves, padding=1), o)

    def forward(self, picture: Tensor, iterations: int) -> Tensor:
        """(B, 2, H, W) pictures -> (B, H, W, A) Q-values with a horizon of `iterations` steps"""
        rules = self.rules(picture)
        q = torch.zeros_like(rules[2])
        for _ in range(iterations):
            q = self.sweep(q, *rules)
        return q.movedim(1, 3)


class Convolutional(nn.Module):
    """Convolutional network with residual connections: its receptive field is limited by its depth."""

    def __init__(self, channels: int = 64, layers: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(PLANES, channels, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(layers))
        self.last = nn.Conv2d(channels, ACTIONS, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # initial Q-values near 0, as the planner's

    def forward(self, picture: Tensor, iterations: int) -> Tensor:  # noqa: ARG002  # fixed depth
        """(B, 2, H, W) pictures -> (B, H, W, A) Q-values"""
        x = F.relu(self.first(picture))
        for layer in self.layers:
            x = x + F.relu(layer(x))
        return self.last(x).movedim(1, 3)
