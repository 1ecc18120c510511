"""Networks for all mazes, from the image of a maze to the Q-values of all its tiles.

The planner is a value iteration network (Tamar et al. 2016): it learns a local model of the environment, and computes
Q-values by iterating the Bellman update with it. From the 3 x 3 tiles around each tile it predicts

    r      reward for entering the tile
    c      discount of the value after entering it; 0 at the exit, which is terminal
    o[a]   probability that action a moves the agent and is not blocked by a wall

and for each action a 3 x 3 kernel P[a], the distribution of its next tile. One iteration computes

    u = r + c V                                value of entering a tile
    Q[a] = o[a] (P[a] * u) + (1 - o[a]) c V    * is a convolution; a blocked agent stays where it is
    V = max over a of Q[a]                     one iteration per step of the path

The effects of walls and actions and the reward of the exit are learned from rewards. The architecture assumes that the
rules are the same on all tiles, that they depend on neighbouring tiles only, and that values satisfy the Bellman
equation. Larger mazes need more iterations, but no other weights.

Dimensions: B mazes, A = 4 actions, H x W tiles, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch07_dqn.mazes.network import ACTIONS

PLANES = 2
"""Number of input channels: floor and exit. The zero padding at the border is equivalent to walls."""


def planes_of(walls: Tensor, exits: Tensor) -> Tensor:
    """(B, H, W) bool walls, (B,) states of the exits, numbered over the batch -> (B, 2, H, W) input images"""
    goal = torch.zeros(walls.numel(), device=walls.device).index_fill_(0, exits, 1.0)
    return torch.stack([(~walls).float(), goal.view(walls.shape)], dim=1)


class Planner(nn.Module):
    """Value iteration network: predict a model of the environment from the image, then iterate the Bellman update."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Conv2d(PLANES, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 2 + ACTIONS, 1)
        )
        self.moves = nn.Parameter(torch.randn(ACTIONS, 9))

    def rules(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 2, H, W) images -> r and c (B, 1, H, W), o (B, A, H, W), and P (A, 1, 3, 3)"""
        r, c, o = self.read(image).split([1, 1, ACTIONS], dim=1)
        return r, c.sigmoid(), o.sigmoid(), self.moves.softmax(1).view(ACTIONS, 1, 3, 3)

    def sweep(self, q: Tensor, r: Tensor, c: Tensor, o: Tensor, moves: Tensor) -> Tensor:
        """(B, A, H, W) Q-values and the rules -> (B, A, H, W) Q-values with the horizon increased by one step"""
        discounted = c * q.amax(1, keepdim=True)
        return torch.lerp(discounted.expand_as(o), F.conv2d(r + discounted, moves, padding=1), o)

    def forward(self, image: Tensor, iterations: int) -> Tensor:
        """(B, 2, H, W) images -> (B, H, W, A) Q-values with a horizon of `iterations` steps"""
        rules = self.rules(image)
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
        nn.init.zeros_(self.last.weight)  # initial Q-values near 0, like those of the planner

    def forward(self, image: Tensor, iterations: int) -> Tensor:  # noqa: ARG002  # fixed depth
        """(B, 2, H, W) images -> (B, H, W, A) Q-values; the number of iterations has no effect"""
        x = F.relu(self.first(image))
        for layer in self.layers:
            x = x + F.relu(layer(x))
        return self.last(x).movedim(1, 3)
