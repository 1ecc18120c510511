"""What a person looks at: values as colours, the best action as an arrow, the walked path, and the walk as a film.

Dimensions: H x W tiles, A = 4 actions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch07_dqn.one_maze import greedy_path
from common.data.mazes.maze import MOVES, Maze, Tile, colours
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALE = 16
"""Pixels a tile."""
FRAME_MILLISECONDS, LAST_MILLISECONDS = 80, 1_200
"""How long a frame of a film stands, and the last one."""


def draw_values(values: Tensor, maze: Maze, path: Sequence[Tile], *, value: Tensor | None = None) -> "Figure":
    """Draw what each tile is worth (H, W), by default its best action's value, and which the best of (H, W, A) is."""
    from common.drawing import plots

    arrows = torch.tensor(MOVES)[values.argmax(2)].float()
    arrows[maze.exit] = 0
    label = "max over a of Q(s, a)" if value is None else "V(s)"
    value = values.amax(2) if value is None else value
    hidden = maze.walls.clone()
    hidden[maze.exit] = True  # nothing comes after the exit: it has no value
    ends = "reaches the exit" if path[-1] == maze.exit else "never arrives"
    title = f"{len(path) - 1} steps: the greedy path {ends}"
    return plots.field(value, arrows, hidden, path=path, title=title, label=label)


def write_path(file: Path, maze: Maze, path: Sequence[Tile]) -> None:
    """Write the maze with the walked path as a PNG."""
    from PIL import Image

    Image.fromarray(colours(maze, path[-1], path=path, scale=SCALE).numpy()).save(file)


def write_film(file: Path, maze: Maze, path: Sequence[Tile]) -> None:
    """Write the walk as a GIF, a frame a step."""
    from PIL import Image

    frames = [
        Image.fromarray(colours(maze, tile, path=path[:step], scale=SCALE).numpy()).quantize(16)
        for step, tile in enumerate(path)
    ]
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def show_walk(run: Run, values: Tensor, maze: Maze, *, value: Tensor | None = None) -> None:
    """Leave the value map, the path and the film of a table of values (H, W, A) in the run's folder."""
    path = greedy_path(values, maze)
    run.figure("values", draw_values(values, maze, path, value=value))
    with run.writing("path.png") as file:
        write_path(file, maze, path)
    with run.writing("walk.gif") as file:
        write_film(file, maze, path)
