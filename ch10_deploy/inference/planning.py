"""Solve mazes with chapter 7's planner: compute action values in repeated sweeps, then follow the best actions.

Dimensions: A = 4 actions, H x W tiles.
"""

from typing import Any

import numpy as np

from ch10_deploy.inference.models import Model

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Changes of row and column per action: up, right, down, left."""

Tile = tuple[int, int]


class MazePlanner:
    """Plan paths through mazes outside the planner's training set."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.drawings = [np.array([list(row) for row in rows]) for rows in model.serving.mazes]
        self.shortest: list[int] = model.serving.shortest

    def solve(self, seed: int) -> dict[str, Any]:
        """Plan a path through the maze with number `seed` modulo the number of exported mazes."""
        number = seed % len(self.drawings)
        drawing = self.drawings[number]
        walls = drawing == "#"
        start, goal = (tuple(int(place[0]) for place in np.nonzero(drawing == letter)) for letter in "SE")
        path = follow(self.values(walls, goal), walls, start, goal)
        return {
            "tiles": walls.astype(int).tolist(),
            "start": start,
            "goal": goal,
            "path": path,
            "shortest_steps": self.shortest[number],
            "solved": path[-1] == goal,
        }

    def values(self, walls: np.ndarray, goal: tuple[int, ...]) -> np.ndarray:
        """(H, W) walls -> (A, H, W) action values, after one sweep per step of the longest possible path"""
        picture = np.zeros((1, 2, *walls.shape), np.float32)
        picture[0, 0] = ~walls
        picture[0, 1][goal] = 1
        values = np.zeros((1, len(MOVES), *walls.shape), np.float32)
        for _ in range(walls.size // 2):
            values = self.model(picture=picture, values=values)["next_values"]
        return values[0]


def follow(values: np.ndarray, walls: np.ndarray, start: tuple[int, ...], goal: tuple[int, ...]) -> list[Tile]:
    """Follow the best action of each tile to the goal; stop at a wall or at a visited tile, which means a loop."""
    height, width = walls.shape
    best = values.argmax(0)
    tile: Tile = (start[0], start[1])
    path, visited = [tile], {tile}
    while tile != goal:
        down, right = MOVES[best[tile]]
        ahead = tile[0] + down, tile[1] + right
        inside = 0 <= ahead[0] < height and 0 <= ahead[1] < width
        if (
            not inside or walls[ahead] or ahead in visited
        ):  # at a wall the agent would stay and repeat the action forever
            break
        tile = ahead
        path.append(tile)
        visited.add(tile)
    return path
