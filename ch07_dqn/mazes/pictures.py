"""Figures of an agent: values as colours with greedy actions as arrows, the greedy path, and its animation.

Dimensions: H x W tiles, A = 4 actions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch07_dqn.mazes.one_maze import greedy_path
from common.data.mazes.maze import MOVES, Maze, Tile, colours
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALE = 16
"""Pixels per tile."""
FRAME_MILLISECONDS, LAST_MILLISECONDS = 80, 1_200
"""Duration of a frame of an animation, and of the last frame."""


def draw_values(values: Tensor, maze: Maze, path: Sequence[Tile], *, value: Tensor | None = None) -> "Figure":
    """Draw the (H, W) state values, by default the maxima of the (H, W, A) action values, and the greedy actions."""
    from common.drawing import plots

    arrows = torch.tensor(MOVES)[values.argmax(2)].float()
    arrows[maze.exit] = 0
    label = "max over a of Q(s, a)" if value is None else "V(s)"
    value = values.amax(2) if value is None else value
    hidden = maze.walls.clone()
    hidden[maze.exit] = True  # a terminal state has no value
    solved = path[-1] == maze.exit
    title = f"greedy path: {len(path) - 1} steps to the exit" if solved else "greedy path: does not reach the exit"
    return plots.field(value, arrows, hidden, path=path, title=title, label=label)


def write_path(file: Path, maze: Maze, path: Sequence[Tile]) -> None:
    """Write the maze and a path as a PNG file."""
    from PIL import Image

    Image.fromarray(colours(maze, path[-1], path=path, scale=SCALE).numpy()).save(file)


def write_animation(file: Path, maze: Maze, path: Sequence[Tile]) -> None:
    """Write a path as an animated GIF, one frame per step."""
    from PIL import Image

    frames = [
        Image.fromarray(colours(maze, tile, path=path[:step], scale=SCALE).numpy()).quantize(16)
        for step, tile in enumerate(path)
    ]
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def save_pictures(run: Run, values: Tensor, maze: Maze, *, value: Tensor | None = None) -> None:
    """Save the value map, the greedy path and its animation in the run folder."""
    path = greedy_path(values, maze)
    run.figure("values", draw_values(values, maze, path, value=value))
    with run.writing("path.png") as file:
        write_path(file, maze, path)
    with run.writing("walk.gif") as file:
        write_animation(file, maze, path)


Histories = Sequence[Sequence[dict[str, float]]]
"""Metrics of all epochs of several runs."""


def draw_learning_curves(agents: dict[str, tuple[Sequence[float], Histories]]) -> "Figure":
    """Draw the optimal action rate (median, range) and the number of solved mazes against environment steps.

    `agents` has the environment steps of the epochs and the histories of the runs of each agent.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from common.drawing import plots

    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(9.6, 3.4))
        left, right = figure.subplots(1, 2)
        for name, (steps, histories) in agents.items():
            rates = torch.tensor([[100 * row["optimal_action_rate"] for row in history] for history in histories])
            shortest = torch.tensor(
                [[float(row["path_steps"] == row["shortest_steps"]) for row in history] for history in histories]
            )
            millions = [step / 1e6 for step in steps]
            (line,) = left.plot(millions, rates.median(0).values, label=name)
            left.fill_between(millions, rates.amin(0), rates.amax(0), color=line.get_color(), alpha=0.15, linewidth=0)
            right.plot(millions, shortest.sum(0), ".-", color=line.get_color(), label=name)
        runs = len(next(iter(agents.values()))[1])
        left.set(title=f"optimal greedy actions: median and range of {runs} mazes", ylabel="% of tiles")
        right.set(title="greedy path is a shortest path", ylabel=f"mazes of {runs}", ylim=(-0.2, runs + 0.2))
        right.yaxis.get_major_locator().set_params(integer=True)
        for axes in (left, right):
            axes.set(xlabel="environment steps, millions", xlim=(0, None))
        left.legend(loc="lower right")
    return figure
