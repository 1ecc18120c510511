"""Steps a second: one walker in gymnasium's loop, against a table that moves thousands at once.

    python -m ch07_dqn.train throughput
    python -m ch07_dqn.train throughput --mazes 65536

Both worlds look the next tile up in a table, so what differs is what stands around the look-up: a call of Python a
step, or one for all. `random` draws an action for each step, by gymnasium's own sampler or torch's; `stepping` takes
actions drawn beforehand, and is the environment alone; `acting` asks a network 32-128-128-4.

Dimensions: M mazes with one environment each, A = 4 actions.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ch07_dqn.network import ACTIONS, QNetwork
from common.benchmark import by_turns, median_ratio, rate
from common.config import RunOptions, require_positive
from common.data.mazes.batch import MazeBatch
from common.data.mazes.maze import Maze, card_of, draw_mazes
from common.run import Run

SINGLE, TOGETHER = 2_048, 64
"""Steps between two looks at the clock: of one environment, and of all environments together."""
SINGLE_ASKING, TOGETHER_ASKING = 64, 4
"""The same where a network is asked at each step."""


KINDS = ("random", "stepping", "acting")
"""Where the actions come from."""


@dataclass(frozen=True)
class Config:
    """What is compared, and for how long."""

    mazes: int = 4_096
    """Mazes, with one environment each, of the batched environment."""
    rows: int = 5
    """Rows of cells."""
    columns: int = 10
    """Columns of cells."""
    rounds: int = 7
    """How often the ways take turns, after a warm-up."""
    seconds: float = 0.4
    """How long each way runs in a round, at least."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "mazes", "rows", "columns", "rounds", "seconds")


def single(maze: Maze) -> Any:
    """Make gymnasium's environment as its users do, with its time limit, without the checker of its first steps."""
    import gymnasium

    env = gymnasium.make("common.data.mazes.environment:Maze-v0", maze=maze, disable_env_checker=True)
    env.reset(seed=0)
    return env


def single_wanderer(maze: Maze) -> Callable[[], int]:
    """Make a function that walks gymnasium's environment at random, as a first program with it does."""
    env = single(maze)

    def walk() -> int:
        for _ in range(SINGLE):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        return SINGLE

    return walk


def single_stepper(maze: Maze) -> Callable[[], int]:
    """Make a function that walks gymnasium's environment by actions drawn beforehand."""
    env = single(maze)
    actions = torch.randint(ACTIONS, (SINGLE,)).tolist()

    def walk() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return SINGLE

    return walk


def single_actor(maze: Maze, model: QNetwork, device: torch.device) -> Callable[[], int]:
    """Make a function in which the network chooses every step of gymnasium's environment."""
    env = single(maze)
    state = env.reset()[0]

    @torch.inference_mode()
    def walk() -> int:
        nonlocal state
        for _ in range(SINGLE_ASKING):
            action = int(model(torch.tensor([state], device=device)).argmax(1))
            state, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                state = env.reset()[0]
        return SINGLE_ASKING

    return walk


def batch_wanderer(environment: MazeBatch) -> Callable[[], int]:
    """Make a function that walks all mazes at random."""

    def walk() -> int:
        for _ in range(TOGETHER):
            environment.step(torch.randint(ACTIONS, environment.state.shape, device=environment.state.device))
        return TOGETHER * len(environment.state)

    return walk


def batch_stepper(environment: MazeBatch) -> Callable[[], int]:
    """Make a function that walks all mazes by actions drawn beforehand."""
    environments = len(environment.state)
    actions = torch.randint(ACTIONS, (TOGETHER, environments), device=environment.state.device)

    def walk() -> int:
        for action in actions:
            environment.step(action)
        return TOGETHER * environments

    return walk


def batch_actor(environment: MazeBatch, model: QNetwork) -> Callable[[], int]:
    """Make a function in which the network chooses every step of every environment."""
    tiles = environment.shape[1] * environment.shape[2]

    @torch.inference_mode()
    def walk() -> int:
        for _ in range(TOGETHER_ASKING):
            environment.step(model(environment.state % tiles).argmax(1))
        return TOGETHER_ASKING * len(environment.state)

    return walk


def train(config: Config) -> dict[str, float]:
    """Walk in six ways by turns; return the steps a second of each, and the ratios."""
    mazes = draw_mazes(config.mazes, config.rows, config.columns, seed=config.run.seed)
    height, width = mazes[0].walls.shape
    card = card_of(mazes, f"{len(mazes):,} of {height}x{width} tiles")
    with Run.open(__name__, config, card, arithmetic="fp32") as run:
        environment = MazeBatch(mazes, device=run.device)
        model = QNetwork((height, width)).to(run.device).eval()
        ways = {
            "gymnasium_random": single_wanderer(mazes[0]),
            "batched_random": batch_wanderer(environment),
            "gymnasium_stepping": single_stepper(mazes[0]),
            "batched_stepping": batch_stepper(environment),
            "gymnasium_acting": single_actor(mazes[0], model, run.device),
            "batched_acting": batch_actor(environment, model),
        }
        speeds = by_turns(ways, config.rounds, lambda walk: rate(walk, config.seconds, run.device))
        median = {way: statistics.median(values) for way, values in speeds.items()}
        report(run, median)
        return run.finish(
            run={
                **{f"{way}_steps_per_second": value for way, value in median.items()},
                **{
                    f"{kind}_ratio": median_ratio(speeds[f"batched_{kind}"], speeds[f"gymnasium_{kind}"])
                    for kind in KINDS
                },
            }
        )


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the speeds."""
    from common.drawing import plots

    names = [way.replace("_", ", ") for way in median]
    run.figure("throughput", plots.bars(names, list(median.values()), title="steps through mazes", label="steps/s"))
