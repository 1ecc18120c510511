"""Tabular Q-learning and value iteration, the reference for the networks.

    python -m ch07_dqn.train q_table
    python -m ch07_dqn.train q_table --environments 1 --steps 128000      # a single environment

Value iteration is given the model of the environment (rewards and next states). It applies the Bellman update

    Q(s, a) <- r + g max over a' of Q(s', a')

to all states and actions until convergence. Q-learning (Watkins 1989) is model-free: it applies the same update, with
learning rate alpha, to the transitions that an epsilon-greedy policy visits.

Dimensions: M environments, S states, A = 4 actions.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ch07_dqn.mazes.one_maze import (
    SolveTime,
    describe,
    episode_statistics,
    greedy_path,
    is_shortest,
    last_episodes,
    maze_of,
    measure,
)
from ch07_dqn.mazes.pictures import draw_values, save_pictures
from common.config import RunOptions, require, require_positive
from common.data.mazes.batch import ACTIONS, MazeBatch, Step
from common.data.mazes.maze import Algorithm, Maze
from common.device import Timer, widest_float
from common.run import Run

TOLERANCE = 1e-12
"""Value iteration stops when no value changes by more than this."""

EVALUATIONS = 20
"""Number of evaluations of the greedy policy during the training."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of tabular Q-learning."""

    maze: int | None = None
    """Random seed of the maze. Default: the seed of the run."""
    algorithm: Algorithm = "depth-first"
    """Maze generation algorithm."""
    rows: int = 5
    """Rows of cells; the maze has H = 2 rows + 1 rows of tiles."""
    columns: int = 10
    """Columns of cells; the maze has W = 2 columns + 1 columns of tiles."""
    loops: float = 0.0
    """Fraction of the remaining walls between cells to remove; with 0 there is one path between any two tiles."""
    environments: int = 64
    """Number of parallel environments, all with the same maze and the same table."""
    time_limit: int = 1_000
    """Steps after which an episode is truncated."""
    steps: int = 512_000
    """Total number of steps over all environments."""
    learning_rate: float = 1.0
    """Learning rate alpha of the Q-learning update. The environment is deterministic, so 1 is optimal."""
    discount: float = 0.99
    """Discount factor gamma."""
    epsilon: float = 0.3
    """Fraction of random actions (epsilon-greedy)."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "environments", "time_limit", "steps")
        require(0 < self.learning_rate <= 1, "--learning-rate must be above 0 and at most 1", self.learning_rate)
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(0 <= self.epsilon <= 1, "--epsilon must be between 0 and 1", self.epsilon)


def act(table: Tensor, states: Tensor, epsilon: float) -> Tensor:
    """(M,) states -> (M,) actions, epsilon-greedy; ties between greedy actions are broken at random"""
    values = table[states]
    noise = torch.rand(values.shape, device=values.device)
    greedy = torch.where(values == values.amax(1, keepdim=True), noise, -1.0).argmax(1)
    return torch.where(torch.rand(states.shape, device=states.device) < epsilon, noise.argmax(1), greedy)


def update(
    table: Tensor, states: Tensor, actions: Tensor, step: Step, *, discount: float, learning_rate: float
) -> Tensor:
    """Apply the Q-learning update to one transition of every environment; return the (M,) TD errors.

    Q(s, a) <- Q(s, a) + alpha (r + g max over a' of Q(s', a') - Q(s, a)), without the maximum if s' is terminal.
    Environments with the same transition write the same value, because the maze is deterministic.
    """
    next_value = table[step.next_state].amax(1) * ~step.terminated
    td_errors = step.reward + discount * next_value - table[states, actions]
    table[states, actions] += learning_rate * td_errors
    return td_errors


def train_step(environment: MazeBatch, table: Tensor, config: Config) -> Step:
    """Take one step in every environment and update the table; return the transitions."""
    states = environment.state
    actions = act(table, states, config.epsilon)
    step = environment.step(actions)
    update(table, states, actions, step, discount=config.discount, learning_rate=config.learning_rate)
    return step


def value_iteration(environment: MazeBatch, discount: float) -> tuple[Tensor, int]:
    """Return the (S, A) optimal Q-values of the first maze, and the number of sweeps until convergence."""
    size = environment.table.numel() // environment.shape[0]
    next_state, rewards = environment.table[:size].view(-1, ACTIONS), environment.rewards[:size].view(-1, ACTIONS)
    rewards = rewards.to(widest_float(rewards.device))
    continues = next_state != environment.exits[0]
    table, sweeps = torch.zeros_like(rewards), 0
    while True:
        updated = rewards + discount * (table.amax(1)[next_state] * continues)
        sweeps += 1
        if float((updated - table).abs().max()) < TOLERANCE:
            return updated, sweeps
        table = updated


def train(config: Config) -> dict[str, float]:
    """Learn the table by Q-learning; return the metrics of its greedy policy and its error at the start of the maze."""
    maze = maze_of(config)
    height, width = maze.walls.shape
    with Run.open(__name__, config, describe(config, maze), arithmetic="fp64") as run:
        environment = MazeBatch([maze], config.environments, limit=config.time_limit, device=run.device)
        with Timer(run.device) as planning:
            optimal, sweeps = value_iteration(environment, config.discount)
        table = torch.zeros_like(optimal)
        steps = -(-config.steps // (config.environments * EVALUATIONS))  # steps of each environment between evaluations
        seconds, solve_time, history = 0.0, SolveTime(), []

        for evaluation in range(1, EVALUATIONS + 1):
            with Timer(run.device) as timer:
                transitions = [train_step(environment, table, config) for _ in range(steps)]
            seconds += timer.seconds
            metrics = measure(table.cpu().view(height, width, ACTIONS), maze)
            environment_steps = evaluation * steps * config.environments
            solve_time.update(is_shortest(metrics), seconds=seconds, steps=environment_steps)
            history.append({"epoch": evaluation, **metrics, **episode_statistics(transitions)})

        values = table.view(height, width, ACTIONS).cpu()
        report(run, history, values, optimal.view(height, width, ACTIONS).cpu(), maze)
        return run.finish(
            run={
                **measure(values, maze),
                **solve_time.metrics(),
                **last_episodes(history),
                "train_seconds": seconds,
                "steps_per_second": EVALUATIONS * steps * config.environments / seconds,
                "start_error": float((table[environment.starts[0]].max() - optimal[environment.starts[0]].max()).abs()),
                "planning_seconds": planning.seconds,
                "planning_sweeps": sweeps,
            }
        )


def report(run: Run, history: list[dict[str, float]], values: Tensor, optimal: Tensor, maze: Maze) -> None:
    """Draw the learning curves, the learned table, its greedy path, and the optimal table."""
    from common.drawing import plots

    panels = {
        "tiles with an optimal greedy action": ["optimal_action_rate"],
        "steps to the exit": ["path_steps", "shortest_steps"],
        "return of the training episodes": ["episode_return"],
    }
    run.figure("curves", plots.curves(history, panels))
    save_pictures(run, values, maze)
    run.figure("optimal_values", draw_values(optimal, maze, greedy_path(optimal, maze)))
