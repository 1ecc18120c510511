"""Maze of the single-maze agents, and metrics of a greedy policy in it.

Dimensions: H x W tiles, S = H W states, A = 4 actions.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.data.mazes.batch import next_states
from common.data.mazes.maze import Maze, Tile, card_of, carve, distances
from common.data.source import DataCard


def maze_of(config: Any) -> Maze:
    """Generate the maze of an agent's Config from its maze seed, or from the run's seed if it is None."""
    generator = random.Random(config.run.seed if config.maze is None else config.maze)
    return carve(config.rows, config.columns, generator, algorithm=config.algorithm, loops=config.loops)


def describe(config: Any, maze: Maze) -> DataCard:
    """Return the data card of the maze of a run."""
    height, width = maze.walls.shape
    steps = int(distances(maze)[maze.start])
    return card_of([maze], f"one of {height}x{width} tiles, {config.algorithm}, shortest path {steps} steps")


def greedy_path(values: Tensor, maze: Maze) -> list[Tile]:
    """Follow the greedy actions of (H, W, A) values from the start to the exit, or until a tile repeats.

    Environment and policy are deterministic, so from a repeated tile on the path is a cycle.
    """
    width = maze.walls.shape[1]
    table, greedy = next_states(maze.walls.unsqueeze(0))[0], values.argmax(2)
    path = [maze.start]
    while path[-1] != maze.exit:
        next_state = divmod(int(table[path[-1]][greedy[path[-1]]]), width)
        if next_state in path:
            break
        path.append(next_state)
    return path


def measure(values: Tensor, maze: Maze) -> dict[str, float]:
    """Return the metrics of the greedy policy of (H, W, A) values.

    `solve_rate` is 1 if the greedy path reaches the exit. `path_steps` is its length, or the number of tiles if it
    does not. `optimal_action_rate` is the share of tiles with an optimal greedy action.
    """
    path, steps = greedy_path(values, maze), distances(maze)
    solved = path[-1] == maze.exit
    return {
        "solve_rate": float(solved),
        "path_steps": float(len(path) - 1 if solved else maze.walls.numel()),
        "shortest_steps": float(steps[maze.start]),
        "optimal_action_rate": optimal_action_rate(values, maze, steps),
    }


def optimal_action_rate(values: Tensor, maze: Maze, steps: Tensor) -> float:
    """Return the share of floor tiles (without the exit) whose greedy action decreases the distance `steps` by one."""
    next_state = next_states(maze.walls.unsqueeze(0))[0].gather(2, values.argmax(2, keepdim=True)).squeeze(2)
    closer = steps.flatten()[next_state] == steps - 1
    return float(closer[steps > 0].float().mean())


def is_shortest(metrics: dict[str, float]) -> bool:
    """Return whether the greedy path is a shortest path."""
    return bool(metrics["solve_rate"]) and metrics["path_steps"] == metrics["shortest_steps"]


class SolveTime:
    """Training effort after which the greedy path stays a shortest path in all evaluations; part of the checkpoint."""

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.solved: dict[str, float] | None = None
        """Effort at the first of the latest consecutive evaluations with a shortest path; None if the last has none."""

    def update(self, shortest: bool, **effort: float) -> None:
        """Add an evaluation and the training effort so far, for example `seconds=3.0, steps=64_000`."""
        self.latest = effort
        self.solved = (self.solved or effort) if shortest else None

    def metrics(self) -> dict[str, float]:
        """Return `solved_seconds` and so on: the effort of the whole training if the path is not a shortest path."""
        return {f"solved_{name}": value for name, value in (self.solved or self.latest).items()}

    def state_dict(self) -> dict[str, dict[str, float] | None]:
        """Return the state for checkpoints."""
        return {"latest": self.latest, "solved": self.solved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.latest, self.solved = state["latest"], state["solved"]


def episode_statistics(transitions: Sequence[Any]) -> dict[str, float]:
    """Return the mean undiscounted return and the mean length of the training episodes.

    Each transition holds `reward`, `terminated` and `truncated` of all environments. Both means are sums over the
    transitions, divided by the number of episodes that ended in them (at least 1).
    """
    reward = torch.stack([transition.reward for transition in transitions])
    ended = torch.stack([transition.terminated | transition.truncated for transition in transitions])
    episodes = max(1, int(ended.sum()))
    return {"episode_return": float(reward.sum()) / episodes, "episode_steps": ended.numel() / episodes}


def last_episodes(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the statistics of the training episodes in the last epoch of a run's history."""
    return {name: history[-1][name] for name in ("episode_return", "episode_steps")}
