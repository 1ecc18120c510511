"""Show a trained agent in the terminal: its path through a maze, or an episode of another environment.

    python -m ch07_dqn.play --maze 7                      # the newest run of generalise, in the maze of seed 7
    python -m ch07_dqn.play --maze 7 --rows 10 --columns 20 --algorithm kruskal
    python -m ch07_dqn.play --file my_maze.txt            # your own maze
    python -m ch07_dqn.play --folder runs/ch07_dqn/maze_dqn/NAME    # a single-maze agent, in its maze
    python -m ch07_dqn.play --folder runs/ch07_dqn/ppo/NAME --gif cart.gif    # an episode of CartPole

A maze file has one line per row and one character per tile: # wall, space or . floor, S start, E exit. A terminal shows
the path as an animation; otherwise the path is printed once.
"""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ch07_dqn.agents import actor_critic, dqn, ppo, reinforce
from ch07_dqn.agents.evaluation import greedy
from ch07_dqn.agents.rendering import Frame, play_episode, text_of, write_gif
from ch07_dqn.mazes import book, maze_actor_critic, maze_dqn
from ch07_dqn.mazes.one_maze import greedy_path, maze_of
from ch07_dqn.mazes.pictures import write_animation
from ch07_dqn.planning import generalise
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.mazes.maze import Algorithm, Maze, Tile, carve, distances, letters, read_maze
from common.files import atomic_path, read_json
from common.progress import console, say
from common.run_folders.folder import newest_run

COMMAND = "python -m ch07_dqn.play"
AGENTS = {"reinforce": reinforce, "actor_critic": actor_critic, "ppo": ppo, "dqn": dqn}
"""Programs whose agents play any environment."""
VISITED = "."
"""Character of a floor tile on the path."""


@dataclass(frozen=True)
class Options:
    """Options of the command: agent, maze or episode, and output."""

    maze: int = 0
    """Random seed of a generated maze."""
    rows: int = 5
    """Rows of cells of the generated maze."""
    columns: int = 10
    """Columns of cells of the generated maze."""
    algorithm: Algorithm = "depth-first"
    """Maze generation algorithm."""
    loops: float = 0.0
    """Fraction of the remaining walls between cells to remove."""
    file: Path | None = None
    """Text file with a maze, used instead of a generated one."""
    folder: Path | None = None
    """Run folder of the agent. Default: the newest finished run of generalise."""
    out: Path = Path("runs")
    """Folder with the runs."""
    episode: int = 0
    """Random seed of the episode, for an agent that was not trained in mazes."""
    steps_per_second: float | None = None
    """Speed of the animation, in steps per second. Default: 12 in mazes, else 50."""
    gif: Path | None = None
    """GIF file to which the animation is also written."""

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "steps_per_second")
        require(self.episode >= 0, "--episode must not be negative", self.episode)
        require(self.gif is None or self.gif.suffix == ".gif", "--gif must name a file that ends with .gif", self.gif)


def program_of(options: Options) -> tuple[Path, str]:
    """Return the run folder of the agent and the program that trained it."""
    folder = options.folder or newest_run(options.out, generalise)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
    return folder, read_json(folder / "config.json").get("program")


def load(options: Options, folder: Path, program: str) -> tuple[Maze, Tensor]:
    """Load the maze and the agent's (H, W, A) Q-values, or logits of its policy.

    Agents of maze_dqn, book and maze_actor_critic are loaded with the maze that they were trained on. Raises ValueError
    for a run of another program.
    """
    maze = read_maze(options.file) if options.file else generated_maze(options)
    if program in ("maze_dqn", "book", "maze_actor_critic") and options.file is not None:
        raise ValueError(f"{folder} was trained in one maze only: omit --file, or use a run of generalise")
    if program in ("maze_dqn", "book"):
        network, config = maze_dqn.restore(folder) if program == "maze_dqn" else book.restore(folder)
        maze = maze_of(config)
        values = maze_dqn.values_of(network, maze)
    elif program == "maze_actor_critic":
        network, config = maze_actor_critic.restore(folder)
        maze = maze_of(config)
        values = maze_actor_critic.policy_and_values(network, maze)[0]
    elif program == "generalise":
        values = generalise.values_of(generalise.restore(folder)[0], [maze])[0]
    else:
        raise ValueError(
            f"{folder} is a run of {program}, which has no agent to play: use a run of generalise or maze_dqn"
        )
    say("agent", f"{program}, from {folder}")
    return maze, values


def generated_maze(options: Options) -> Maze:
    """Generate the maze that the options describe."""
    generator = random.Random(options.maze)
    return carve(options.rows, options.columns, generator, algorithm=options.algorithm, loops=options.loops)


def play(options: Options) -> None:
    """Show the agent's greedy path through a maze, or an episode of its environment."""
    if options.file is not None:
        read_maze(options.file)  # report a wrong file before a missing run
    folder, program = program_of(options)
    if program in AGENTS:
        play_environment(options, folder, program)
    else:
        play_maze(options, folder, program)


def play_environment(options: Options, folder: Path, program: str) -> list[Frame]:
    """Show an episode of an agent's greedy actions and return its frames."""
    model, config = AGENTS[program].restore(folder)
    say("agent", f"{program}, from {folder}")
    with torch.inference_mode():
        frames, episode_return = play_episode(
            greedy(model), config.environment, seed=options.episode, time_limit=config.time_limit
        )
    speed = options.steps_per_second or 50.0
    animate([text_of(frame) for frame in frames] if console().is_terminal else [text_of(frames[-1])], 1 / speed)
    say("result", f"{config.environment}: return {episode_return:g} in {len(frames) - 1} steps")
    if options.gif is not None:
        with atomic_path(options.gif) as temporary:
            write_gif(temporary, frames, milliseconds=max(20, round(1_000 / speed)))
        say("saved", str(options.gif))
    return frames


def play_maze(options: Options, folder: Path, program: str) -> list[Tile]:
    """Show the agent's greedy path and return it."""
    maze, values = load(options, folder, program)
    path = greedy_path(values, maze)
    shortest = int(distances(maze)[maze.start])
    height, width = maze.walls.shape
    say("maze", f"{height}x{width} tiles, shortest path {shortest} steps")
    wide = console().is_terminal
    steps = range(1, len(path) + 1) if wide else [len(path)]
    animate([render(maze, path[:step], wide=wide) for step in steps], 1 / (options.steps_per_second or 12.0))
    if path[-1] == maze.exit:
        say("result", f"reached the exit in {len(path) - 1} steps; the shortest path has {shortest}")
    else:
        say("result", f"the path repeats after {len(path) - 1} steps and does not reach the exit")
    if options.gif is not None:
        with atomic_path(options.gif) as temporary:
            write_animation(temporary, maze, path)
        say("saved", str(options.gif))
    return path


def animate(pictures: Sequence[str], seconds: float) -> None:
    """Show pictures one after the other if the output is a terminal; otherwise print the last one."""
    output = console()
    if not output.is_terminal:
        output.print(pictures[-1], markup=False)
        return
    from rich.live import Live

    with Live(console=output, auto_refresh=False) as live:
        for picture in pictures:
            live.update(picture, refresh=True)
            time.sleep(seconds)


def render(maze: Maze, path: list[Tile], *, wide: bool = False) -> str:
    """Return the maze with a path as text; if `wide`, each tile takes two columns, so that it is about square."""
    rows = [list(line) for line in letters(maze, path[-1]).splitlines()]
    for row, column in path[:-1]:
        if rows[row][column] == " ":
            rows[row][column] = VISITED
    if wide:
        signs = {"#": "██", " ": "  ", VISITED: "· ", "S": "S ", "E": "E ", "@": "@ "}
        return "\n".join("".join(signs[letter] for letter in row) for row in rows)
    return "\n".join("".join(row) for row in rows)


def main(words: list[str] | None = None) -> None:
    """Parse the command line and show the path."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        play(parse(Options, arguments, prog=COMMAND, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
