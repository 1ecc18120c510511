"""Learning curves of deep agents over several mazes.

    python -m ch07_dqn.train learning_curves

Trains all agents in the same mazes with the settings in AGENTS, and draws the metrics of the greedy policy against the
number of environment steps. Unlike seconds, steps do not depend on the machine.
"""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ch07_dqn.mazes import maze_actor_critic, maze_dqn
from ch07_dqn.mazes.one_maze import maze_of
from ch07_dqn.mazes.pictures import draw_learning_curves
from common.config import RunOptions, require_positive
from common.data.mazes.maze import card_of
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Number of mazes, and length of each training."""

    mazes: int = 5
    """Number of mazes; each agent is trained once in each, with the seed of the maze as the seed of the run."""
    epochs: int | None = None
    """Number of epochs of each agent. Default: that of its program."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "mazes", "epochs")


Agent = maze_dqn.Config | maze_actor_critic.Config

AGENTS: dict[str, tuple[str, Agent, Callable[..., dict[str, float]]]] = {
    "dqn": ("DQN, 8-step returns", maze_dqn.Config(), maze_dqn.train),
    "dqn_1_step": ("DQN, 1-step returns", maze_dqn.Config(n_steps=1), maze_dqn.train),
    "actor_critic": ("actor-critic", maze_actor_critic.Config(), maze_actor_critic.train),
}
"""Label, settings and training function of each agent."""

MEASURES = ("solve_rate", "optimal_action_rate", "solved_steps")
"""Metrics to average over the mazes."""


def steps_per_epoch(agent: Agent) -> tuple[int, int]:
    """Return the environment steps of an agent before its first epoch and in each epoch."""
    if isinstance(agent, maze_dqn.Config):
        return agent.warm_up * agent.environments, agent.steps * agent.environments
    return 0, agent.steps * agent.rollout * agent.environments


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the metrics of every epoch of the only run below a folder."""
    (file,) = folder.glob("*/*/*/metrics.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def train(config: Config) -> dict[str, float]:
    """Train every agent in every maze and draw the learning curves; return the mean metrics of each agent."""
    seeds = [config.run.seed + number for number in range(config.mazes)]
    mazes = [maze_of(replace(maze_dqn.Config(), maze=seed)) for seed in seeds]
    height, width = mazes[0].walls.shape
    card = card_of(mazes, f"{config.mazes} of {height}x{width} tiles, depth-first")
    metrics, curves = {}, {}
    with Run.open(__name__, config, card) as run:
        for name, (label, agent, fit) in AGENTS.items():
            histories, results = [], []
            for seed in seeds:
                out = run.folder / "agents" / name / str(seed)
                own = replace(agent, run=replace(config.run, seed=seed, out=out, resume=False))
                results.append(fit(own if config.epochs is None else replace(own, epochs=config.epochs)))
                histories.append(read_history(out))
            before, each = steps_per_epoch(agent)
            curves[label] = [before + each * row["epoch"] for row in histories[0]], histories
            means = {key: statistics.fmean(result[key] for result in results) for key in MEASURES}
            metrics |= {f"{name}_{key}": mean for key, mean in means.items()}
        run.figure("learning_curves", draw_learning_curves(curves))
        return run.finish(run=metrics)
