"""Throughput in environment steps per second: a gymnasium loop, and thousands of environments in one table.

    python -m ch07_dqn.train throughput
    python -m ch07_dqn.train throughput --mazes 65536

Both read the next state from a table. They differ in the overhead: one Python call per step of one environment, or per
step of all environments. `random` samples an action for each step, with gymnasium's sampler or torch's; `stepping` uses
actions sampled beforehand and times the environment alone; `acting` evaluates a network 32-128-128-4 for each action.

Dimensions: M mazes with one environment each, A = 4 actions.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ch07_dqn.mazes.network import ACTIONS, QNetwork
from common.benchmark import interleaved, median_ratio, rate
from common.config import RunOptions, require_positive
from common.data.mazes.batch import MazeBatch
from common.data.mazes.maze import Maze, card_of, draw_mazes
from common.run import Run

GYMNASIUM_STEPS, BATCHED_STEPS = 2_048, 64
"""Steps per call of a variant: of the gymnasium environment, and of each batched environment."""
GYMNASIUM_ACTING_STEPS, BATCHED_ACTING_STEPS = 64, 4
"""Steps per call if a network chooses the actions."""

KINDS = ("random", "stepping", "acting")
"""Sources of the actions."""


@dataclass(frozen=True)
class Config:
    """Size and duration of the measurement."""

    mazes: int = 4_096
    """Number of mazes of the batched environments, one environment per maze."""
    rows: int = 5
    """Rows of cells."""
    columns: int = 10
    """Columns of cells."""
    rounds: int = 7
    """Number of measurement rounds after a warm-up round; every variant is timed once per round."""
    seconds: float = 0.4
    """Minimum duration of one measurement, in seconds."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "mazes", "rows", "columns", "rounds", "seconds")


def make_gymnasium(maze: Maze) -> Any:
    """Create the gymnasium environment with its time limit, but without gymnasium's environment checker."""
    import gymnasium

    env = gymnasium.make("common.data.mazes.environment:Maze-v0", maze=maze, disable_env_checker=True)
    env.reset(seed=0)
    return env


def gymnasium_random(maze: Maze) -> Callable[[], int]:
    """Return a function that takes random steps in the gymnasium environment."""
    env = make_gymnasium(maze)

    def steps() -> int:
        for _ in range(GYMNASIUM_STEPS):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        return GYMNASIUM_STEPS

    return steps


def gymnasium_stepping(maze: Maze) -> Callable[[], int]:
    """Return a function that steps the gymnasium environment with actions sampled beforehand."""
    env = make_gymnasium(maze)
    actions = torch.randint(ACTIONS, (GYMNASIUM_STEPS,)).tolist()

    def steps() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return GYMNASIUM_STEPS

    return steps


def gymnasium_acting(maze: Maze, model: QNetwork, device: torch.device) -> Callable[[], int]:
    """Return a function that steps the gymnasium environment with the network's greedy actions."""
    env = make_gymnasium(maze)
    state = env.reset()[0]

    @torch.inference_mode()
    def steps() -> int:
        nonlocal state
        for _ in range(GYMNASIUM_ACTING_STEPS):
            action = int(model(torch.tensor([state], device=device)).argmax(1))
            state, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                state = env.reset()[0]
        return GYMNASIUM_ACTING_STEPS

    return steps


def batched_random(environment: MazeBatch) -> Callable[[], int]:
    """Return a function that takes random steps in all environments."""

    def steps() -> int:
        for _ in range(BATCHED_STEPS):
            environment.step(torch.randint(ACTIONS, environment.state.shape, device=environment.state.device))
        return BATCHED_STEPS * len(environment.state)

    return steps


def batched_stepping(environment: MazeBatch) -> Callable[[], int]:
    """Return a function that steps all environments with actions sampled beforehand."""
    environments = len(environment.state)
    actions = torch.randint(ACTIONS, (BATCHED_STEPS, environments), device=environment.state.device)

    def steps() -> int:
        for action in actions:
            environment.step(action)
        return BATCHED_STEPS * environments

    return steps


def batched_acting(environment: MazeBatch, model: QNetwork) -> Callable[[], int]:
    """Return a function that steps all environments with the network's greedy actions."""
    tiles = environment.shape[1] * environment.shape[2]

    @torch.inference_mode()
    def steps() -> int:
        for _ in range(BATCHED_ACTING_STEPS):
            environment.step(model(environment.state % tiles).argmax(1))
        return BATCHED_ACTING_STEPS * len(environment.state)

    return steps


def train(config: Config) -> dict[str, float]:
    """Time all variants, interleaved; return the steps per second of each, and medians of ratios within rounds."""
    mazes = draw_mazes(config.mazes, config.rows, config.columns, seed=config.run.seed)
    height, width = mazes[0].walls.shape
    card = card_of(mazes, f"{len(mazes):,} of {height}x{width} tiles")
    with Run.open(__name__, config, card, arithmetic="fp32") as run:
        environment = MazeBatch(mazes, device=run.device)
        model = QNetwork((height, width)).to(run.device).eval()
        variants = {
            "gymnasium_random": gymnasium_random(mazes[0]),
            "batched_random": batched_random(environment),
            "gymnasium_stepping": gymnasium_stepping(mazes[0]),
            "batched_stepping": batched_stepping(environment),
            "gymnasium_acting": gymnasium_acting(mazes[0], model, run.device),
            "batched_acting": batched_acting(environment, model),
        }
        speeds = interleaved(variants, config.rounds, lambda steps: rate(steps, config.seconds, run.device))
        median = {name: statistics.median(values) for name, values in speeds.items()}
        report(run, median)
        return run.finish(
            run={
                **{f"{name}_steps_per_second": value for name, value in median.items()},
                **{
                    f"{kind}_ratio": median_ratio(speeds[f"batched_{kind}"], speeds[f"gymnasium_{kind}"])
                    for kind in KINDS
                },
            }
        )


def report(run: Run, median: dict[str, float]) -> None:
    """Draw the throughput of each variant."""
    from common.drawing import plots

    names = [name.replace("_", ", ") for name in median]
    run.figure(
        "throughput", plots.bars(names, list(median.values()), title="environment steps per second", label="steps/s")
    )
