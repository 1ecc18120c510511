"""Transitions of all states and actions of a batch of mazes, from the simulator.

Dimensions: B batch of mazes, N mazes, H x W tiles, A = 4 actions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ch07_dqn.planning.planner import planes_of
from common.data.mazes.batch import next_states, rewards_of
from common.data.mazes.maze import Maze


class Transitions(NamedTuple):
    """The transitions of all states and actions of a batch of mazes."""

    image: Tensor
    """(B, 2, H, W)"""
    reward: Tensor
    """(B, H, W, A)"""
    next_state: Tensor
    """(B, H, W, A) next states, numbered consecutively over the batch"""
    mask: Tensor
    """(B, H, W) bool: floor tiles except the exit, the states with actions"""
    ended: Tensor
    """(B, H, W, A) bool: the next state is terminal"""


Model = Callable[[Tensor, Tensor], Transitions]
"""(B, H, W) walls, (B,) states of the exits -> transitions; the simulator, or a learned model"""


def exit_tiles(mazes: Sequence[Maze], device: torch.device | str = "cpu") -> Tensor:
    """Return the (N,) index of the exit tile within each maze."""
    width = mazes[0].walls.shape[1]
    return torch.tensor([row * width + column for row, column in (maze.exit for maze in mazes)], device=device)


def move_half(walls: Tensor, exits: Tensor) -> Tensor:
    """(B, H, W) walls, (B,) tiles of the exits -> (B,) states of the exits, half of them moved to a random floor tile

    A maze thus provides a different task for each of its floor tiles.
    """
    random_tile = torch.multinomial((~walls).flatten(1).float(), 1).squeeze(1)
    unchanged = torch.rand(len(walls), device=walls.device) < 0.5
    tile = torch.where(unchanged, exits, random_tile)
    return tile + torch.arange(len(walls), device=walls.device) * walls[0].numel()


def sample_batch(walls: Tensor, exits: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """(N, H, W) walls, (N,) tiles of the exits -> (B, H, W) walls of a random batch, (B,) states of its exits"""
    index = torch.randint(len(walls), (batch_size,), device=walls.device)
    return walls[index], move_half(walls[index], exits[index])


def goals(walls: Tensor, exits: Tensor) -> Tensor:
    """(B, H, W) walls, (B,) states of the exits -> (B, H, W) bool: which tiles are exits"""
    none = torch.zeros(walls.numel(), dtype=torch.bool, device=walls.device)
    return none.index_fill_(0, exits, True).view(walls.shape)


def transitions_of(walls: Tensor, exits: Tensor) -> Transitions:
    """Compute the reward (1 for reaching the exit) and the next state of every action on every tile."""
    goal = goals(walls, exits)
    reward, next_state = rewards_of(walls, goal.float(), bump=0.0), next_states(walls)
    return Transitions(planes_of(walls, exits), reward, next_state, ~walls & ~goal, goal.flatten()[next_state])
