"""The maze as a gymnasium environment: importing this module registers `Maze-v0`.

    gymnasium.make("common.data.mazes.environment:Maze-v0", maze=carve(5, 10, random.Random(0)))

Observation: the number r W + c of the agent's tile. Actions: up, right, down, left; at a wall the agent stays where it
is. Rewards: `exit` (1 for reaching the exit, otherwise 0) or `book`, see `maze.worth_of`. An episode terminates at the
exit and is truncated after 1,000 steps by gymnasium's TimeLimit.
"""

import random
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from common.data.mazes.batch import ACTIONS, MazeBatch
from common.data.mazes.maze import Maze, Rewards, carve, colours, letters

LIMIT = 1_000


class MazeEnv(gymnasium.Env[int, int]):
    """One agent in one maze; by default a maze of the book's size, generated with `maze_seed`."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}

    def __init__(
        self,
        maze: Maze | None = None,
        *,
        maze_seed: int = 0,
        rewards: Rewards = "exit",
        render_mode: Literal["ansi", "rgb_array"] | None = None,
    ) -> None:
        self.maze = maze or carve(5, 10, random.Random(maze_seed))
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Discrete(self.maze.walls.numel())  # pyright: ignore[reportAttributeAccessIssue]
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)  # pyright: ignore[reportAttributeAccessIssue]
        tables = MazeBatch([self.maze], rewards=rewards)
        # Lists, because indexing a tensor for a single number is slower.
        self._table, self._rewards = tables.table.tolist(), tables.rewards.tolist()
        self._start, self._exit = int(tables.starts[0]), int(tables.exits[0])
        self._at = self._start

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Reset the agent to the start."""
        super().reset(seed=seed, options=options)
        self._at = self._start
        return self._at, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take one step; an episode of this environment itself is never truncated."""
        row = self._at * ACTIONS + int(action)
        self._at = self._table[row]
        return self._at, self._rewards[row], self._at == self._exit, False, {}

    def render(self) -> str | NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw the maze and the agent: as text, or as (8 H, 8 W, 3) bytes."""
        at = divmod(self._at, self.maze.walls.shape[1])
        if self.render_mode == "ansi":
            return letters(self.maze, at)
        if self.render_mode == "rgb_array":
            return colours(self.maze, at, scale=8).numpy()
        return None


gymnasium.register("Maze-v0", entry_point="common.data.mazes.environment:MazeEnv", max_episode_steps=LIMIT)
