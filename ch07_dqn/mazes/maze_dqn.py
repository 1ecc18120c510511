"""Deep Q-network (DQN) for one maze, trained from rewards alone.

    python -m ch07_dqn.train maze_dqn
    python -m ch07_dqn.train maze_dqn --replay prioritised --dueling
    python -m ch07_dqn.train maze_dqn --n-steps 1 --starts everywhere        # one-step targets, exploring starts
    python -m ch07_dqn.train maze_dqn --no-double --target-every 0           # without a target network

Mnih et al. 2015, with double Q-learning and n-step returns. Parallel environments share one maze, one network and one
replay buffer.

Dimensions: M environments, B batch, A = 4 actions, H x W tiles, S = H W states.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch07_dqn.mazes.network import ACTIONS, QNetwork
from ch07_dqn.mazes.one_maze import (
    SolveTime,
    describe,
    episode_statistics,
    is_shortest,
    last_episodes,
    maze_of,
    measure,
)
from ch07_dqn.mazes.pictures import save_pictures
from ch07_dqn.mazes.replay import Batch, ReplayBuffer
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.mazes.batch import MazeBatch, Step
from common.data.mazes.maze import Algorithm, Maze
from common.run import Run, load_weights
from common.schedule import linear_at, set_learning_rate


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the deep Q-network."""

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
    starts: Literal["start", "everywhere"] = "start"
    """First state of the episodes: the start of the maze, or tiles spread over the whole floor (exploring starts)."""
    environments: int = 256
    """Number of parallel environments, all with the same maze."""
    time_limit: int = 1_000
    """Steps after which an episode is truncated."""
    replay: Literal["uniform", "prioritised", "newest"] = "uniform"
    """Sampling from the replay buffer: uniformly, by TD error (prioritised experience replay), or only
    from the newest transition of each environment (no replay)."""
    buffer_size: int = 500
    """Capacity of the replay buffer, in steps per environment."""
    warm_up: int = 2_000
    """Number of random steps per environment before training starts."""
    batch_size: int = 256
    """Batch size: transitions per gradient step."""
    n_steps: int = 8
    """Number n of steps of the n-step return. A larger n propagates rewards faster; the return includes random actions
    of the behaviour policy, which make it slightly too small."""
    discount: float = 0.99
    """Discount factor gamma."""
    epsilon: float = 0.1
    """Final fraction of random actions (epsilon-greedy); decays linearly from 1 over the first half of the training."""
    double: bool = True
    """Double Q-learning: the online network selects the next action, the target network evaluates it."""
    dueling: bool = False
    """Dueling network: separate outputs for the state value and the advantages."""
    target_every: int = 25
    """Number of gradient steps between two updates of the target network; 0 trains without a target network."""
    epochs: int = 20
    """Number of epochs; the greedy policy is evaluated after each."""
    steps: int = 250
    """Number of gradient steps per epoch; every environment takes one step before each."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam; decays linearly to zero."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "n_steps", "environments", "buffer_size", "time_limit", "batch_size")
        require_positive(self, "epochs", "steps", "learning_rate")
        require(self.target_every >= 0, "--target-every must not be negative", self.target_every)
        require(self.n_steps <= self.buffer_size, "--n-steps must not exceed --buffer-size", self.n_steps)
        require(self.n_steps <= self.warm_up, "--n-steps must not exceed --warm-up", self.n_steps)
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(0 <= self.epsilon <= 1, "--epsilon must be between 0 and 1", self.epsilon)
        require(
            self.run.precision != "bf16", "--precision must be fp32 (Q-values of adjacent tiles differ by 1 %)", "bf16"
        )


def make_environment(config: Config, maze: Maze, device: torch.device) -> MazeBatch:
    """Create the parallel environments."""
    starts = None
    if config.starts == "everywhere":
        floor = ~maze.walls
        floor[maze.exit] = False
        tiles = floor.flatten().nonzero().squeeze(1)
        starts = tiles[torch.randperm(len(tiles))][torch.arange(config.environments) % len(tiles)]
    return MazeBatch([maze], config.environments, limit=config.time_limit, starts=starts, device=device)


def make_replay_buffer(config: Config, device: torch.device) -> ReplayBuffer:
    """Create the replay buffer; with `newest` it holds one complete n-step return per environment."""
    return ReplayBuffer(
        config.n_steps if config.replay == "newest" else config.buffer_size,
        config.environments,
        discount=config.discount,
        n_steps=config.n_steps,
        alpha=0.6 if config.replay == "prioritised" else 0.0,
        device=device,
    )


def make_model(config: Config) -> nn.Module:
    """Create the Q-network."""
    return QNetwork((2 * config.rows + 1, 2 * config.columns + 1), dueling=config.dueling)


def epsilon_at(config: Config, step: int) -> float:
    """Return epsilon at step t of T: linear from 1 to its final value at T / 2, then constant."""
    progress = step / (config.epochs * config.steps)
    return max(config.epsilon, 1 - 2 * progress * (1 - config.epsilon))


@torch.no_grad()
def act(model: nn.Module, states: Tensor, epsilon: float) -> Tensor:
    """(M,) states -> (M,) actions, epsilon-greedy"""
    random_actions = torch.randint(ACTIONS, states.shape, device=states.device)
    if epsilon >= 1:
        return random_actions
    greedy_actions = model(states).argmax(1)
    return torch.where(torch.rand(states.shape, device=states.device) < epsilon, random_actions, greedy_actions)


def environment_step(environment: MazeBatch, replay_buffer: ReplayBuffer, model: nn.Module, epsilon: float) -> Step:
    """Take one epsilon-greedy step in every environment; add the transitions to the replay buffer and return them."""
    state = environment.state
    action = act(model, state, epsilon)
    transitions = environment.step(action)
    replay_buffer.add(state, action, transitions)
    return transitions


@torch.no_grad()
def targets(batch: Batch, model: nn.Module, target_network: nn.Module, *, double: bool) -> Tensor:
    """Return the (B,) TD targets y = R + g^k Q'(s', a*), where Q' is the target network.

    a* = argmax over a of Q'(s', a) (Mnih et al. 2015), or with double Q-learning of Q(s', a) (van Hasselt et al. 2016):
    selecting and evaluating with the same network overestimates the values.
    """
    next_values = target_network(batch.next_state)
    next_action = (model(batch.next_state) if double else next_values).argmax(1, keepdim=True)
    return batch.n_step_return + batch.discount * next_values.gather(1, next_action).squeeze(1)


def train_step(
    model: nn.Module, target_network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, *, double: bool = True
) -> tuple[Tensor, Tensor]:
    """Take one gradient step on the Huber loss; return the loss and the (B,) TD errors y - Q(s, a), on the device."""
    y = targets(batch, model, target_network, double=double)
    q = model(batch.state).gather(1, batch.action.unsqueeze(1)).squeeze(1)
    loss = (batch.weight * F.smooth_l1_loss(q, y, reduction="none")).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), (y - q).detach()


def train(config: Config) -> dict[str, float]:
    """Train the network in one maze; return the metrics of its greedy policy."""
    maze = maze_of(config)
    total_steps = config.epochs * config.steps
    with Run.open(__name__, config, describe(config, maze)) as run:
        environment = make_environment(config, maze, run.device)
        replay_buffer = make_replay_buffer(config, run.device)
        model = make_model(config).to(run.device)
        target_network = deepcopy(model) if config.target_every else model
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
                set_learning_rate(optimizer, linear_at(step / total_steps, config.learning_rate))
                epsilon = epsilon_at(config, step)
                transitions.append(environment_step(environment, replay_buffer, model, epsilon))

                batch = replay_buffer.sample(config.batch_size, beta=0.4 + 0.6 * epoch / config.epochs)
                loss, td_errors = train_step(model, target_network, optimizer, batch, double=config.double)
                replay_buffer.update_priorities(batch, td_errors)

                if config.target_every and step % config.target_every == 0:
                    target_network.load_state_dict(model.state_dict())
                run.step(loss, steps=config.environments)

            seconds, gradient_steps = run.elapsed(), epoch * config.steps
            environment_steps = (config.warm_up + gradient_steps) * config.environments
            metrics = measure(values_of(model, maze), maze)
            solve_time.update(
                is_shortest(metrics), seconds=seconds, steps=environment_steps, gradient_steps=gradient_steps
            )
            run.log(run={**metrics, **episode_statistics(transitions)})

        run.save(model)
        values = values_of(model, maze)
        report(run, values, maze)
        return run.finish(run={**measure(values, maze), **solve_time.metrics(), **last_episodes(run.history)})


@torch.inference_mode()
def values_of(model: nn.Module, maze: Maze) -> Tensor:
    """Return the (H, W, A) Q-values of all tiles."""
    device = next(model.parameters()).device
    return model(torch.arange(maze.walls.numel(), device=device)).view(*maze.walls.shape, ACTIONS).cpu()


def report(run: Run, values: Tensor, maze: Maze) -> None:
    """Draw the learning curves, the Q-values, the greedy path and its animation."""
    from common.drawing import plots

    panels = {
        "loss": ["train_loss"],
        "tiles with an optimal greedy action": ["optimal_action_rate"],
        "steps to the exit": ["path_steps", "shortest_steps"],
        "return of the training episodes": ["episode_return"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    save_pictures(run, values, maze)


def restore(folder: Path) -> tuple[nn.Module, Config]:
    """Load a trained network and its Config from a run folder; `maze_of(config)` returns its maze."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step for the device benchmark: one step of every environment and one gradient step."""
    environment = make_environment(config, maze_of(config), device)
    replay_buffer = make_replay_buffer(config, device)
    model = make_model(config).to(device)
    target_network = deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    for _ in range(config.n_steps):
        environment_step(environment, replay_buffer, model, epsilon=1.0)

    def step() -> Tensor:
        environment_step(environment, replay_buffer, model, epsilon=0.5)
        return train_step(
            model, target_network, optimizer, replay_buffer.sample(config.batch_size), double=config.double
        )[0]

    return Workload(step, items=config.environments, unit="steps")
