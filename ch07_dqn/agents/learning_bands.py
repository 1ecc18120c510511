"""Learning curves of the agents over several seeds: mean and spread of the return by environment steps.

    python -m ch07_dqn.train learning_bands
    python -m ch07_dqn.train learning_bands --agents ppo dqn --environment Acrobot-v1 --seeds 3

One run shows little: with another seed the same agent can learn in half the time, or not at all. Each agent is trained
with the seeds of the run, run + 1 and so on, with the settings of its program.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ch07_dqn.agents import actor_critic, dqn, ppo, reinforce
from ch07_dqn.agents.vector_environment import task_of
from common.config import RunOptions, require, require_positive
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Agent = Literal["reinforce", "reinforce_baseline", "actor_critic", "ppo", "dqn"]

AGENTS: dict[Agent, tuple[ModuleType, Any]] = {
    "reinforce": (reinforce, reinforce.Config()),
    "reinforce_baseline": (reinforce, reinforce.Config(baseline=True)),
    "actor_critic": (actor_critic, actor_critic.Config()),
    "ppo": (ppo, ppo.Config()),
    "dqn": (dqn, dqn.Config()),
}
"""Program and settings of each agent."""


@dataclass(frozen=True)
class Config:
    """Agents, environment and number of seeds."""

    agents: tuple[Agent, ...] = get_args(Agent)
    """Agents to train."""
    environment: str = "CartPole-v1"
    """Name of a gymnasium environment with discrete actions."""
    seeds: int = 5
    """Number of trainings of each agent, with different seeds."""
    epochs: int = 20
    """Number of points of a curve."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "seeds", "epochs")
        require(len(self.agents) > 0, "--agents needs at least one agent", "none")


Curve = tuple[list[float], list[float]]
"""Environment steps and mean return of the latest training episodes, at the end of each epoch."""


def read_curve(folder: Path) -> Curve:
    """Read the curve of the only run below a folder."""
    (file,) = folder.glob("*/*/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row["environment_steps"] for row in rows], [row["episode_return"] for row in rows]


def band(curves: Sequence[Curve], points: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return environment steps, mean return and its standard deviation over the curves.

    The curves are interpolated linearly between their points, over the range that all of them cover.
    """
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.linspace(first, max(first, last), points)
    returns = np.stack([np.interp(grid, steps, values) for steps, values in curves])
    return grid, returns.mean(0), returns.std(0, ddof=1 if len(curves) > 1 else 0)


def train(config: Config) -> dict[str, float]:
    """Train every agent with every seed and draw the bands; return the mean test return of each agent."""
    metrics: dict[str, float] = {}
    curves: dict[str, list[Curve]] = {}
    with Run.open(__name__, config, task_of(config.environment).card()) as run:
        for name in config.agents:
            program, settings = AGENTS[name]
            results, curves[name] = [], []
            for seed in range(config.run.seed, config.run.seed + config.seeds):
                out = run.folder / "agents" / name / str(seed)
                options = replace(config.run, seed=seed, out=out, resume=False)
                own = replace(settings, environment=config.environment, epochs=config.epochs, run=options)
                results.append(program.train(own))
                curves[name].append(read_curve(out))
            for key in ("test_return", "environment_steps"):
                metrics[f"{name}_{key}"] = statistics.fmean(result[key] for result in results)
            metrics[f"{name}_lowest_test_return"] = min(result["test_return"] for result in results)
        run.figure("learning_bands", draw_bands(curves))
        return run.finish(run=metrics)


def draw_bands(curves: Mapping[str, Sequence[Curve]]) -> "Figure":
    """Draw mean and standard deviation of the return against environment steps, one colour per agent."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from common.drawing import plots

    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(7.2, 4.0))
        axes = figure.subplots()
        seeds = 0
        for name, own in curves.items():
            steps, mean, deviation = band(own)
            (line,) = axes.plot(steps / 1_000, mean, label=name.replace("_", " "))
            axes.fill_between(
                steps / 1_000, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.15, linewidth=0
            )
            seeds = len(own)
        axes.set(
            title=f"return of the latest 100 training episodes: mean and standard deviation of {seeds} seeds",
            xlabel="environment steps, thousands",
            ylabel="return",
            xlim=(0, None),
        )
        axes.legend(loc="best")
    return figure
