"""Thousands of maze environments, stepped at once with one table of next states.

The tiles of all mazes are numbered consecutively: tile (r, c) of maze n is state s = n H W + r W + c. Row 4 s + a of
the table holds the next state of action a in state s, so one step of all environments is one index operation. An agent
that moves into a wall, or off the board, stays where it is.

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
    """Outcome of one step of all environments, each field (M,)."""

    next_state: Tensor
    """State after the step; an environment whose episode ended has already been reset to its start."""
    reward: Tensor
    terminated: Tensor
    """The next state is the exit: the return ends with this reward."""
    truncated: Tensor
    """Time limit: the return does not end here, so TD targets still contain the value of the next state."""


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
        """Create the environments; `starts` are (M,) initial states, by default the starts of the mazes."""
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
        """Reset every environment to its start; return the (M,) states."""
        self.state = self.starts.clone()
        self.steps = torch.zeros_like(self.state)
        return self.state

    def step(self, actions: Tensor) -> Step:
        """Take (M,) actions and return their outcome; environments whose episode ended are reset."""
        row = torch.add(actions, self.state, alpha=ACTIONS)
        next_state = self.table.index_select(0, row)  # faster than table[row]
        self.steps += 1
        terminated, truncated = next_state == self.exits, self.steps >= self.limit
        ended = terminated | truncated
        self.state = torch.where(ended, self.starts, next_state)
        self.steps.masked_fill_(ended, 0)
        return Step(next_state, self.rewards.index_select(0, row), terminated, truncated)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the states and step counts, for checkpoints."""
        return {"state": self.state, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the states and step counts."""
        self.state, self.steps = (state[name].to(self.starts.device) for name in ("state", "steps"))


def next_states(walls: Tensor) -> Tensor:
    """(N, H, W) bool walls -> (N, H, W, A) int64 next state of each action"""
    here = torch.arange(walls.numel(), device=walls.device).view(walls.shape)
    width = walls.shape[2]
    return torch.stack(
        [torch.where(tiles_ahead(walls, move, outside=True), here, here + move[0] * width + move[1]) for move in MOVES],
        dim=3,
    )


def rewards_of(walls: Tensor, worth: Tensor, bump: float) -> Tensor:
    """(N, H, W) walls, (N, H, W) rewards for entering a tile -> (N, H, W, A) reward of each action"""
    value = torch.where(walls, bump, worth)
    return torch.stack([tiles_ahead(value, move, outside=bump) for move in MOVES], dim=3)


def tiles_ahead(tiles: Tensor, move: tuple[int, int], outside: float) -> Tensor:
    """(N, H, W) -> (N, H, W) the value of the neighbouring tile in the direction of the move"""
    height, width = tiles.shape[1:]
    padded = F.pad(tiles, (1, 1, 1, 1), value=outside)
    return padded[:, 1 + move[0] : 1 + move[0] + height, 1 + move[1] : 1 + move[1] + width]
