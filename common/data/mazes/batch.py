"""Thousands of mazes walked at once: one table of next tiles, looked up.

The tiles of all mazes are numbered through: tile (r, c) of maze n is state s = n H W + r W + c. Where action a leads
from state s stands in row 4 s + a of a table, so a step of every environment is one index. A step into a wall, or off
the board, leads back to where it came from.

Dimensions: N mazes, H x W tiles, M environments, A = 4 actions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from common.config import require
from common.data.mazes.maze import MOVES, Maze, Rewards, worth_of

ACTIONS = len(MOVES)


class Step(NamedTuple):
    """What a step of all environments led to, each (M,)."""

    next_state: Tensor
    """The state that was reached; an environment whose episode ended stands at its start again already."""
    reward: Tensor
    terminated: Tensor
    """At the exit: nothing comes after, so nothing is added to the reward."""
    truncated: Tensor
    """Out of time: the episode would have gone on, so a learner adds what it expects of the next state."""


class MazeBatch:
    """M environments in N mazes of one size; environment m is maze m modulo N."""

    def __init__(
        self,
        mazes: Sequence[Maze],
        environments: int | None = None,
        *,
        rewards: Rewards = "exit",
        limit: int = 1_000,
        starts: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take besides, as (M,) states, where the environments begin; by default at their mazes' starts."""
        shapes = {tuple(maze.walls.shape) for maze in mazes}
        require(len(shapes) == 1, "mazes of one batch must be of one size", sorted(shapes))
        require(limit >= 1, "an episode needs at least one step", limit)
        walls = torch.stack([maze.walls for maze in mazes])
        self.shape = count, height, width = tuple(walls.shape)
        first = torch.arange(count) * height * width  # the number of each maze's first tile
        usual = first + torch.tensor([maze.start[0] * width + maze.start[1] for maze in mazes])
        exits = first + torch.tensor([maze.exit[0] * width + maze.exit[1] for maze in mazes])
        worth, bumps = zip(*(worth_of(maze, rewards) for maze in mazes), strict=True)
        self.table = next_states(walls).flatten().to(device)
        self.rewards = rewards_of(walls, torch.stack(worth), bumps[0]).flatten().to(device)
        whose = torch.arange(count if environments is None else environments) % count
        self.starts = (usual[whose] if starts is None else starts).to(device)
        self.exits = exits[whose].to(device)
        self.limit = limit
        self.reset()

    def reset(self) -> Tensor:
        """Put every environment at its start; return (M,) their states."""
        self.state = self.starts.clone()
        self.steps = torch.zeros_like(self.state)
        return self.state

    def step(self, actions: Tensor) -> Step:
        """(M,) actions -> where they led; environments whose episode ended are at their starts afterwards"""
        row = torch.add(actions, self.state, alpha=ACTIONS)
        next_state = self.table.index_select(0, row)  # half again as fast as table[row]
        self.steps += 1
        terminated, truncated = next_state == self.exits, self.steps >= self.limit
        ended = terminated | truncated
        self.state = torch.where(ended, self.starts, next_state)
        self.steps.masked_fill_(ended, 0)
        return Step(next_state, self.rewards.index_select(0, row), terminated, truncated)

    def state_dict(self) -> dict[str, Tensor]:
        """Say where the environments are."""
        return {"state": self.state, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put the environments where they were."""
        self.state, self.steps = (state[name].to(self.starts.device) for name in ("state", "steps"))


def next_states(walls: Tensor) -> Tensor:
    """(N, H, W) bool -> (N, H, W, A) int64 the state that each action leads to"""
    here = torch.arange(walls.numel(), device=walls.device).view(walls.shape)
    width = walls.shape[2]
    return torch.stack(
        [torch.where(tiles_ahead(walls, move, outside=True), here, here + move[0] * width + move[1]) for move in MOVES],
        dim=3,
    )


def rewards_of(walls: Tensor, worth: Tensor, bump: float) -> Tensor:
    """(N, H, W) walls, (N, H, W) what entering a tile is worth -> (N, H, W, A) the reward of each action"""
    value = torch.where(walls, bump, worth)
    return torch.stack([tiles_ahead(value, move, outside=bump) for move in MOVES], dim=3)


def tiles_ahead(tiles: Tensor, move: tuple[int, int], outside: float) -> Tensor:
    """(N, H, W) -> (N, H, W) of each tile the one that the move leads to"""
    height, width = tiles.shape[1:]
    padded = F.pad(tiles, (1, 1, 1, 1), value=outside)
    return padded[:, 1 + move[0] : 1 + move[0] + height, 1 + move[1] : 1 + move[1] + width]
