"""The book's deep Q-network as written, which cannot learn; `--corrected` corrects its two errors.

    python -m ch07_dqn.train book
    python -m ch07_dqn.train book --corrected

Errors of the book's program:

1. `replay`, the function that trains the network on stored transitions, is never called. The weights keep their random
   initial values, so the greedy policy is arbitrary.
2. The maze stores positions as (row, column), the agent reads them as (x, y). The exit of an 11 x 21 maze therefore
   lies outside the maze: no episode terminates, and the agent never receives the reward of 100. Here the exit is
   replaced by a wall in the environment, which has the same effect.

`--corrected` trains on stored transitions and keeps the exit open. The book's `replay` would still not train: it
computes targets, but does not pass them to the network. Instead, `train_step`, the replay buffer with n-step returns,
and the target network are those of `maze_dqn`. The book's network, rewards, discount and epsilon remain; with them, the
corrected program does not find the exit either (see the README).

The book decays epsilon inside `replay` and never reads it. Here it is the fraction of random actions.

Dimensions: M environments, B batch, A = 4 actions, H x W tiles.
"""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ch07_dqn.mazes.maze_dqn import environment_step, report, train_step, values_of
from ch07_dqn.mazes.network import ACTIONS
from ch07_dqn.mazes.one_maze import (
    SolveTime,
    describe,
    episode_statistics,
    is_shortest,
    last_episodes,
    maze_of,
    measure,
)
from ch07_dqn.mazes.replay import ReplayBuffer
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.mazes.batch import MazeBatch
from common.data.mazes.maze import MOVES, Algorithm, Maze
from common.run import Run, load_weights
from common.schedule import linear_at, set_learning_rate


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the book's deep Q-network."""

    corrected: bool = False
    """Correct the two errors: train on stored transitions, and make the exit reachable."""
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
    environments: int = 256
    """Number of parallel environments, all with the same maze."""
    time_limit: int = 1_000
    """Steps after which an episode is truncated."""
    buffer_size: int = 500
    """Capacity of the replay buffer, in steps per environment."""
    warm_up: int = 2_000
    """Number of random steps per environment before the first epoch."""
    batch_size: int = 256
    """Batch size: transitions per gradient step."""
    n_steps: int = 8
    """Number n of steps of the n-step return."""
    discount: float = 0.95
    """Discount factor gamma."""
    epsilon_decay: float = 0.995
    """Factor by which epsilon, the fraction of random actions, decays per step."""
    min_epsilon: float = 0.01
    """Lower bound of epsilon."""
    target_every: int = 25
    """Number of gradient steps between two updates of the target network."""
    epochs: int = 20
    """Number of epochs; the greedy policy is evaluated after each."""
    steps: int = 250
    """Steps of every environment per epoch; with --corrected, a gradient step follows each."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam; decays linearly to zero."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "environments", "time_limit", "buffer_size", "batch_size", "n_steps")
        require_positive(self, "target_every", "epochs", "steps", "learning_rate")
        require(self.n_steps <= self.buffer_size, "--n-steps must not exceed --buffer-size", self.n_steps)
        require(self.n_steps <= self.warm_up, "--n-steps must not exceed --warm-up", self.n_steps)
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(0 < self.epsilon_decay <= 1, "--epsilon-decay must be above 0 and at most 1", self.epsilon_decay)
        require(0 <= self.min_epsilon <= 1, "--min-epsilon must be between 0 and 1", self.min_epsilon)
        require(self.run.precision != "bf16", "--precision must be fp32 (rewards range from -100 to 100)", "bf16")


class BookNetwork(nn.Module):
    """The book's network 4-128-128-1 with input (x, y, dx, dy): one Q-value for a state and an action.

    The greedy action needs one evaluation per action. The tiles on the two sides of a wall have nearly the same
    coordinates, but can be many steps apart.
    """

    moves: Tensor

    def __init__(self, shape: tuple[int, int], hidden_size: int = 128) -> None:
        super().__init__()
        self.width = shape[1]
        self.layers = nn.Sequential(
            nn.Linear(4, hidden_size),
            nn.Tanh(),
            nn.Linear(hidden_size, hidden_size),
            nn.Tanh(),
            nn.Linear(hidden_size, 1),
        )
        self.register_buffer("moves", torch.tensor([(right, down) for down, right in MOVES]).float(), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """(B,) states -> (B, A) Q-values"""
        positions = torch.stack([states % self.width, states // self.width], dim=1).float()  # (B, 2) x, y
        pairs = [positions.unsqueeze(1).expand(-1, ACTIONS, -1), self.moves.expand(len(states), -1, -1)]
        return self.layers(torch.cat(pairs, dim=2)).squeeze(2)


def make_environment(config: Config, maze: Maze, device: torch.device) -> MazeBatch:
    """Create the parallel environments with the book's rewards: wall -100, exit 100, other tiles 0 or -1."""
    if not config.corrected:
        walls = maze.walls.clone()
        walls[maze.exit] = True
        maze = replace(maze, walls=walls)
    return MazeBatch([maze], config.environments, rewards="book", limit=config.time_limit, device=device)


def make_replay_buffer(config: Config, device: torch.device) -> ReplayBuffer:
    """Create the replay buffer."""
    return ReplayBuffer(
        config.buffer_size, config.environments, discount=config.discount, n_steps=config.n_steps, device=device
    )


def make_model(config: Config) -> BookNetwork:
    """Create the book's network."""
    return BookNetwork((2 * config.rows + 1, 2 * config.columns + 1))


def epsilon_at(config: Config, step: int) -> float:
    """Return epsilon at step t: epsilon_decay^t, at least min_epsilon."""
    return max(config.min_epsilon, config.epsilon_decay**step)


def train(config: Config) -> dict[str, float]:
    """Run the book's program in one maze; return the metrics of its greedy policy."""
    maze = maze_of(config)
    total_steps = config.epochs * config.steps
    with Run.open(__name__, config, describe(config, maze)) as run:
        environment = make_environment(config, maze, run.device)
        replay_buffer = make_replay_buffer(config, run.device)
        model = make_model(config).to(run.device)
        target_network = deepcopy(model)
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        solve_time = SolveTime()
        checkpointed = {
            "model": model, "target_network": target_network, "optimizer": optimizer, "replay_buffer": replay_buffer,
            "environment": environment, "solve_time": solve_time,
        }  # fmt: skip

        for epoch in run.epochs(config.epochs, config.steps, **checkpointed):
            if epoch == 1:
                for _ in range(config.warm_up):
                    environment_step(environment, replay_buffer, model, epsilon=1.0)

            transitions = []
            for step in range((epoch - 1) * config.steps, epoch * config.steps):
                epsilon = epsilon_at(config, step)
                transitions.append(environment_step(environment, replay_buffer, model, epsilon))
                loss = torch.zeros((), device=run.device)
                if config.corrected:  # the book's program only stores transitions and never trains on them
                    set_learning_rate(optimizer, linear_at(step / total_steps, config.learning_rate))
                    batch = replay_buffer.sample(config.batch_size)
                    loss, _ = train_step(model, target_network, optimizer, batch)
                    if step % config.target_every == 0:
                        target_network.load_state_dict(model.state_dict())
                run.step(loss, steps=config.environments)

            seconds = run.elapsed()
            environment_steps = (config.warm_up + epoch * config.steps) * config.environments
            metrics = measure(values_of(model, maze), maze)
            solve_time.update(is_shortest(metrics), seconds=seconds, steps=environment_steps)
            run.log(run={**metrics, **episode_statistics(transitions)})

        run.save(model)
        values = values_of(model, maze)
        report(run, values, maze)
        return run.finish(run={**measure(values, maze), **solve_time.metrics(), **last_episodes(run.history)})


def restore(folder: Path) -> tuple[BookNetwork, Config]:
    """Load a trained network and its Config from a run folder; `maze_of(config)` returns its maze."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step of the corrected program for the device benchmark: one step of every environment and one update."""
    environment = make_environment(config, maze_of(config), device)
    replay_buffer = make_replay_buffer(config, device)
    model = make_model(config).to(device)
    target_network = deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    for _ in range(config.n_steps):
        environment_step(environment, replay_buffer, model, epsilon=1.0)

    def step() -> Tensor:
        environment_step(environment, replay_buffer, model, epsilon=0.5)
        return train_step(model, target_network, optimizer, replay_buffer.sample(config.batch_size))[0]

    return Workload(step, items=config.environments, unit="steps")
