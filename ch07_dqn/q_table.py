"""A table of values, one number a state and action: the reference that the networks are held against.

    python -m ch07_dqn.train q_table
    python -m ch07_dqn.train q_table --environments 1     # one environment alone, the textbook's way

Two ways to the same table. Value iteration knows the rules, and applies

    Q(s, a) <- r + g max over a' of Q(s', a')

to every state and action until nothing moves. Q-learning (Watkins 1989) does not: it applies the same rule, a part
alpha of the way, to the steps that it happens to take.

Dimensions: M environments, S states, A = 4 actions.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ch07_dqn.one_maze import Solved, describe, greedy_path, is_shortest, maze_of, measure
from ch07_dqn.pictures import draw_values, show_walk
from common.config import RunOptions, require, require_positive
from common.data.mazes.batch import ACTIONS, MazeBatch, Step
from common.data.mazes.maze import Algorithm, Maze
from common.device import Timer, widest_float
from common.run import Run

TOLERANCE = 1e-12
"""Value iteration stops once no value moves by more."""

MANY, ALONE = 512_000, 128_000
"""Steps of many environments together, and of one alone."""

LOOKS = 20
"""How often the greedy path is looked at."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of Q-learning with a table."""

    maze: int | None = None
    """Seed of the maze; by default that of the run, so that another seed is another maze."""
    algorithm: Algorithm = "depth-first"
    """How the maze is carved."""
    rows: int = 5
    """Rows of cells; H = 2 rows + 1 tiles."""
    columns: int = 10
    """Columns of cells; W = 2 columns + 1 tiles."""
    loops: float = 0.0
    """Share of the walls between cells that are opened after carving; 0 leaves one path between any two tiles."""
    environments: int = 64
    """Environments that share the maze and the table."""
    time_limit: int = 1_000
    """Steps after which an episode is truncated."""
    steps: int | None = None
    """Steps of all environments together; by default 512,000, of one environment alone 128,000."""
    step_size: float = 1.0
    """alpha: how far a value moves towards what was seen. The maze throws no dice, so all the way is right."""
    discount: float = 0.99
    """Worth of a reward one step later."""
    epsilon: float = 0.3
    """Share of random actions."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "environments", "time_limit", "steps")
        require(0 < self.step_size <= 1, "--step-size must be above 0 and at most 1", self.step_size)
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(0 <= self.epsilon <= 1, "--epsilon must be between 0 and 1", self.epsilon)


def choose(table: Tensor, states: Tensor, epsilon: float) -> Tensor:
    """(M,) states -> (M,) actions: one of the best, any of them, or with probability epsilon anything at all"""
    values = table[states]
    noise = torch.rand(values.shape, device=values.device)
    best = torch.where(values == values.amax(1, keepdim=True), noise, -1.0).argmax(1)
    return torch.where(torch.rand(states.shape, device=states.device) < epsilon, noise.argmax(1), best)


def learn(table: Tensor, states: Tensor, actions: Tensor, step: Step, *, discount: float, step_size: float) -> Tensor:
    """Move the table (S, A) by one step of every environment; return (M,) by how far it was off.

    Q(s, a) <- Q(s, a) + alpha (r + g max over a' of Q(s', a') - Q(s, a)), without the maximum at the exit.
    Two environments that take the same step move the same value to the same place: the maze is deterministic.
    """
    future = table[step.next_state].amax(1) * ~step.terminated
    errors = step.reward + discount * future - table[states, actions]
    table[states, actions] += step_size * errors
    return errors


def walk(environment: MazeBatch, table: Tensor, config: Config) -> Tensor:
    """Let every environment take a step, and learn from it; return how many episodes ended."""
    states = environment.state
    actions = choose(table, states, config.epsilon)
    step = environment.step(actions)
    learn(table, states, actions, step, discount=config.discount, step_size=config.step_size)
    return (step.terminated | step.truncated).sum()


def value_iteration(environment: MazeBatch, discount: float) -> tuple[Tensor, int]:
    """(S, A) the best that can be had, by the rules of the first maze; and the sweeps that it took"""
    size = environment.table.numel() // environment.shape[0]
    next_state, rewards = environment.table[:size].view(-1, ACTIONS), environment.rewards[:size].view(-1, ACTIONS)
    rewards = rewards.to(widest_float(rewards.device))
    goes_on = next_state != environment.exits[0]
    table, sweeps = torch.zeros_like(rewards), 0
    while True:
        better = rewards + discount * (table.amax(1)[next_state] * goes_on)
        sweeps += 1
        if float((better - table).abs().max()) < TOLERANCE:
            return better, sweeps
        table = better


def train(config: Config) -> dict[str, float]:
    """Fill the table in both ways; return what the learned one is worth, and how far apart they are at the start."""
    maze = maze_of(config)
    height, width = maze.walls.shape
    with Run.open(__name__, config, describe(config, maze), arithmetic="fp64") as run:
        environment = MazeBatch([maze], config.environments, limit=config.time_limit, device=run.device)
        with Timer(run.device) as planning:
            best, sweeps = value_iteration(environment, config.discount)
        table = torch.zeros_like(best)
        steps = config.steps or (MANY if config.environments > 1 else ALONE)
        rounds = -(-steps // (config.environments * LOOKS))  # of all environments, between two looks
        seconds, episodes, solved, solved_episodes = 0.0, 0, Solved(), 0
        for _ in range(LOOKS):
            with Timer(run.device) as timer:
                episodes += int(torch.stack([walk(environment, table, config) for _ in range(rounds)]).sum())
            seconds += timer.seconds
            fresh = solved.seconds is None
            solved.note(is_shortest(measure(table.cpu().view(height, width, ACTIONS), maze)), seconds)
            solved_episodes = episodes if fresh else solved_episodes
        values = table.view(height, width, ACTIONS).cpu()
        report(run, values, best.view(height, width, ACTIONS).cpu(), maze)
        return run.finish(
            run={
                **measure(values, maze),
                "solved_seconds": solved.seconds or seconds,
                "solved_episodes": solved_episodes,
                "train_seconds": seconds,
                "steps_per_second": LOOKS * rounds * config.environments / seconds,
                "start_error": float((table[environment.starts[0]].max() - best[environment.starts[0]].max()).abs()),
                "planning_seconds": planning.seconds,
                "planning_sweeps": sweeps,
            }
        )


def report(run: Run, values: Tensor, best: Tensor, maze: Maze) -> None:
    """Draw the learned table with its path, and the best one."""
    show_walk(run, values, maze)
    run.figure("best_values", draw_values(best, maze, greedy_path(best, maze)))
