"""The one maze that a learner learns by heart, and what its values are worth there: the path that they lead along.

Dimensions: H x W tiles, S = H W states, A = 4 actions.
"""

import random
from typing import Any

from torch import Tensor

from common.data.mazes.batch import next_states
from common.data.mazes.maze import Maze, Tile, card_of, carve, distances
from common.data.source import DataCard


def maze_of(config: Any) -> Maze:
    """Carve the maze that a learner's Config asks for; without a seed of its own, from that of the run."""
    dice = random.Random(config.run.seed if config.maze is None else config.maze)
    return carve(config.rows, config.columns, dice, algorithm=config.algorithm, loops=config.loops)


def describe(config: Any, maze: Maze) -> DataCard:
    """Say which maze a run learns."""
    height, width = maze.walls.shape
    steps = int(distances(maze)[maze.start])
    return card_of([maze], f"one of {height}x{width} tiles, {config.algorithm}, shortest path {steps} steps")


def greedy_path(values: Tensor, maze: Maze) -> list[Tile]:
    """Follow the best action (values are (H, W, A)) from the start to the exit, or until a tile comes a second time.

    The environment and the policy are fixed, so a tile that comes twice comes for ever.
    """
    width = maze.walls.shape[1]
    table, best = next_states(maze.walls.unsqueeze(0))[0], values.argmax(2)
    path = [maze.start]
    while path[-1] != maze.exit:
        next_state = divmod(int(table[path[-1]][best[path[-1]]]), width)
        if next_state in path:
            break
        path.append(next_state)
    return path


def measure(values: Tensor, maze: Maze) -> dict[str, float]:
    """Say whether the greedy path reaches the exit, how long it is, and where else the best action is right.

    A path that does not arrive counts as no path: `path_steps` is then the number of all tiles.
    """
    path, steps = greedy_path(values, maze), distances(maze)
    solved = path[-1] == maze.exit
    return {
        "solve_rate": float(solved),
        "path_steps": float(len(path) - 1 if solved else maze.walls.numel()),
        "shortest_steps": float(steps[maze.start]),
        "right_rate": right_rate(values, maze, steps),
    }


def right_rate(values: Tensor, maze: Maze, steps: Tensor) -> float:
    """Share of the tiles, exit apart, from which the best action is a step of a shortest path; `steps` from BFS."""
    next_state = next_states(maze.walls.unsqueeze(0))[0].gather(2, values.argmax(2, keepdim=True)).squeeze(2)
    closer = steps.flatten()[next_state] == steps - 1
    return float(closer[steps > 0].float().mean())


def is_shortest(measures: dict[str, float]) -> bool:
    """Tell whether the greedy path is as short as can be."""
    return bool(measures["solve_rate"]) and measures["path_steps"] == measures["shortest_steps"]


class Solved:
    """Since when the greedy path has been the shortest; part of the checkpoint."""

    seconds: float | None = None

    def note(self, shortest: bool, seconds: float) -> None:
        """Note how it is after so many seconds of training."""
        self.seconds = (self.seconds or seconds) if shortest else None

    def state_dict(self) -> dict[str, float | None]:
        """Give the seconds."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Take over the seconds."""
        self.seconds = state["seconds"]
