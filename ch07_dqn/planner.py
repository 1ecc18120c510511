"""Networks that read a maze as a picture and answer for all of its tiles at once.

The planner is a value iteration network (Tamar et al. 2016): it learns what the picture says about one step, and plans
by repeating it. From the 3 x 3 tiles around each tile it reads

    r      what entering the tile pays
    c      how much of what comes afterwards counts there: the discount, and nothing beyond an exit
    o[a]   how sure action a is to lead away from it, and not into a wall

and with P[a], a 3 x 3 kernel of chances that sum to one, where action a leads to:

    u = r + c V                                what a tile is worth to those who enter it
    Q[a] = o[a] (P[a] * u) + (1 - o[a]) c V    * is a convolution; who does not get away, stays
    V = max over a of Q[a]                     and again, as often as the path is long

Nothing says what a wall is, where the actions lead or what an exit is worth: all of that is learned from rewards. What
is given is that the rules are the same everywhere, that they concern neighbours, and that the future is what comes next
plus the future from there. For a larger maze the same rules are repeated more often.

Dimensions: B mazes, A = 4 actions, H x W tiles, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch07_dqn.network import ACTIONS

PLANES = 2
"""What is seen: where floor is, and where the exit is. Beyond the border there is neither, as in a wall."""


def planes_of(walls: Tensor, exits: Tensor) -> Tensor:
    """(B, H, W) bool, (B,) states of the exits, numbered through -> (B, 2, H, W) the picture"""
    goal = torch.zeros(walls.numel(), device=walls.device).index_fill_(0, exits, 1.0)
    return torch.stack([(~walls).float(), goal.view(walls.shape)], dim=1)


class Planner(nn.Module):
    """Reads the rules of one step off the picture, and repeats them."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Conv2d(PLANES, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 2 + ACTIONS, 1)
        )
        self.moves = nn.Parameter(torch.randn(ACTIONS, 9))

    def rules(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 2, H, W) -> r and c (B, 1, H, W), o (B, A, H, W), and P (A, 1, 3, 3)"""
        r, c, o = self.read(picture).split([1, 1, ACTIONS], dim=1)
        return r, c.sigmoid(), o.sigmoid(), self.moves.softmax(1).view(ACTIONS, 1, 3, 3)

    def sweep(self, q: Tensor, r: Tensor, c: Tensor, o: Tensor, moves: Tensor) -> Tensor:
        """(B, A, H, W) values and the rules -> (B, A, H, W) values that look one step farther"""
        later = c * q.amax(1, keepdim=True)
        return torch.lerp(later.expand_as(o), F.conv2d(r + later, moves, padding=1), o)

    def forward(self, picture: Tensor, iterations: int) -> Tensor:
        """(B, 2, H, W) -> (B, H, W, A) values, looking so many steps ahead"""
        rules = self.rules(picture)
        q = torch.zeros_like(rules[2])
        for _ in range(iterations):
            q = self.sweep(q, *rules)
        return q.movedim(1, 3)


class Convolutional(nn.Module):
    """An ordinary convolutional network with shortcuts: it sees as far as it has layers, whatever the maze."""

    def __init__(self, channels: int = 64, layers: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(PLANES, channels, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(layers))
        self.last = nn.Conv2d(channels, ACTIONS, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # like the planner, it starts with no expectations

    def forward(self, picture: Tensor, iterations: int) -> Tensor:  # noqa: ARG002  # its depth is fixed
        """(B, 2, H, W) -> (B, H, W, A) values"""
        x = F.relu(self.first(picture))
        for layer in self.layers:
            x = x + F.relu(layer(x))
        return self.last(x).movedim(1, 3)
