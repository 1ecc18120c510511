"""Watch a trained agent walk through a maze, in the terminal.

    python -m ch07_dqn.play --maze 7                      # the newest network for all mazes, in a maze of seed 7
    python -m ch07_dqn.play --maze 7 --rows 10 --columns 20 --algorithm kruskal
    python -m ch07_dqn.play --file my_maze.txt            # one that you have drawn
    python -m ch07_dqn.play --folder runs/ch07_dqn/dqn/NAME    # the network of one maze, in its maze

A drawing has a line a row and a letter a tile: # wall, space or . floor, S start, E exit. On a terminal the walk is a
film; elsewhere the walked path is printed once.
"""

import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ch07_dqn import actor_critic, dqn, generalise
from ch07_dqn.one_maze import greedy_path, maze_of
from ch07_dqn.pictures import write_film
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.mazes.maze import Algorithm, Maze, Tile, carve, distances, letters, read_maze
from common.files import atomic_path, read_json
from common.folder import newest_run
from common.progress import console, say

DOOR = "python -m ch07_dqn.play"
FLOOR_MARK = "."
"""How a tile that was walked on is printed."""


@dataclass(frozen=True)
class Options:
    """Which maze, and which agent."""

    maze: int = 0
    """Seed of a maze to be carved."""
    rows: int = 5
    """Rows of its cells."""
    columns: int = 10
    """Columns of its cells."""
    algorithm: Algorithm = "depth-first"
    """How it is carved."""
    loops: float = 0.0
    """Share of the walls between cells that are opened after carving."""
    file: Path | None = None
    """A drawn maze to walk in instead."""
    folder: Path | None = None
    """Run folder of the agent; by default the newest finished run of generalise."""
    out: Path = Path("runs")
    """Where runs are looked for."""
    steps_per_second: float = 12.0
    """How fast the walk is shown."""
    gif: Path | None = None
    """Write the walk as a film to this file, too."""

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "steps_per_second")
        require(self.gif is None or self.gif.suffix == ".gif", "--gif must name a file that ends with .gif", self.gif)


def load(options: Options) -> tuple[Maze, Tensor]:
    """Give the maze, and (H, W, A) what the agent says of every tile.

    A network of dqn or actor_critic knows one maze by heart, and walks in that one. Raises ValueError for a run of
    another program.
    """
    maze = read_maze(options.file) if options.file else carved(options)
    folder = options.folder or newest_run(options.out, generalise)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
    program = read_json(folder / "config.json").get("program")
    if program in ("dqn", "actor_critic"):
        if options.file is not None:
            raise ValueError(f"{folder} knows only its own maze: leave out --file, or take a run of generalise")
        if program == "dqn":
            network, config = dqn.restore(folder)
            maze = maze_of(config)
            values = dqn.values_of(network, maze)
        else:
            actor, settings = actor_critic.restore(folder)
            maze = maze_of(settings)
            values = actor_critic.preferences_of(actor, maze)[0]
    elif program == "generalise":
        values = generalise.values_of(generalise.restore(folder)[0], [maze])[0]
    else:
        raise ValueError(f"{folder} is a run of {program}, which has no agent: take one of generalise or dqn")
    say("agent", f"{program}, from {folder}")
    return maze, values


def carved(options: Options) -> Maze:
    """Carve the maze that the options ask for."""
    dice = random.Random(options.maze)
    return carve(options.rows, options.columns, dice, algorithm=options.algorithm, loops=options.loops)


def play(options: Options) -> list[Tile]:
    """Let the agent walk, show it, and return its path."""
    maze, values = load(options)
    path = greedy_path(values, maze)
    shortest = int(distances(maze)[maze.start])
    height, width = maze.walls.shape
    say("maze", f"{height}x{width} tiles, shortest path {shortest} steps")
    show(maze, path, 1 / options.steps_per_second)
    if path[-1] == maze.exit:
        say("result", f"reached the exit in {len(path) - 1} steps; the shortest path has {shortest}")
    else:
        say("result", f"went in a circle after {len(path) - 1} steps and did not reach the exit")
    if options.gif is not None:
        with atomic_path(options.gif) as temporary:
            write_film(temporary, maze, path)
        say("saved", str(options.gif))
    return path


def show(maze: Maze, path: list[Tile], seconds: float) -> None:
    """Show the walk as a film on a terminal, elsewhere the whole path at once."""
    output = console()
    if not output.is_terminal:
        output.print(drawn(maze, path))
        return
    from rich.live import Live

    with Live(console=output, auto_refresh=False) as live:
        for step in range(1, len(path) + 1):
            live.update(drawn(maze, path[:step], wide=True), refresh=True)
            time.sleep(seconds)


def drawn(maze: Maze, path: list[Tile], *, wide: bool = False) -> str:
    """Write the maze with the way walked so far; wide, each tile takes two columns, which makes it square."""
    rows = [list(line) for line in letters(maze, path[-1]).splitlines()]
    for row, column in path[:-1]:
        if rows[row][column] == " ":
            rows[row][column] = FLOOR_MARK
    if wide:
        signs = {"#": "██", " ": "  ", FLOOR_MARK: "· ", "S": "S ", "E": "E ", "@": "@ "}
        return "\n".join("".join(signs[letter] for letter in row) for row in rows)
    return "\n".join("".join(row) for row in rows)


def main(words: list[str] | None = None) -> None:
    """Read the command line."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        play(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
