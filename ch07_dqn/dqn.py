"""The deep Q-network: a network that learns the way through one maze from rewards alone.

    python -m ch07_dqn.train dqn
    python -m ch07_dqn.train dqn --n-steps 1 --starts everywhere        # every part is a switch
    python -m ch07_dqn.train dqn --no-double --target-every 0           # without a second network
    python -m ch07_dqn.train dqn --book                                 # the book's network, state and rewards
    python -m ch07_dqn.train dqn --book --replay never --goal sealed    # and as it was written: it cannot learn

Many environments share one maze and one network, and put their steps into one memory (Mnih et al. 2015).

Dimensions: M environments, B batch, A = 4 actions, H x W tiles, S = H W states.
"""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch07_dqn.network import ACTIONS, BookNetwork, QNetwork
from ch07_dqn.one_maze import Solved, describe, is_shortest, maze_of, measure
from ch07_dqn.pictures import show_walk
from ch07_dqn.replay import Batch, Replay
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.mazes.batch import MazeBatch
from common.data.mazes.maze import Algorithm, Maze
from common.run import Run, load_weights


@dataclass(frozen=True)
class Config:
    """Hyperparameters and switches of the deep Q-network."""

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
    book: bool = False
    """The book's network Q(x, y, dx, dy), rewards (wall -100, exit 100, floor 0 or -1), discount and exploration."""
    starts: Literal["start", "everywhere"] = "start"
    """Where episodes begin: at the maze's start, or each on a tile of its own."""
    goal: Literal["exit", "sealed"] = "exit"
    """sealed walls up the exit while learning: as out of reach as the book's, where x and y are swapped."""
    replay: Literal["uniform", "prioritised", "newest", "never"] = "uniform"
    """What is learned from: any remembered step, rather surprising ones, only the newest, or (as in the book) none."""
    target_every: int = 25
    """Steps after which the target network becomes a copy of the learning one; 0 goes without a target network."""
    double: bool = True
    """Let the learning network choose the action that the target network values (van Hasselt et al. 2016)."""
    dueling: bool = False
    """Split the network into a state's value and the actions' advantages."""
    n_steps: int = 8
    """Rewards that are summed before the network's guess takes over. Some of those steps were random, so long sums are
    a little too small; what they spare is errors that are handed on from tile to tile."""
    environments: int = 256
    """Environments that share the maze."""
    warm_up: int = 2_000
    """Random steps of each environment before the learning starts."""
    memory: int = 500
    """Moments of all environments that are remembered."""
    time_limit: int = 1_000
    """Steps after which an episode is truncated."""
    batch_size: int = 256
    """Remembered steps a gradient step."""
    epochs: int = 20
    """Rounds of training, with a look at the greedy path after each."""
    steps: int = 250
    """Gradient steps a round; every environment takes one step before each."""
    learning_rate: float = 2e-3
    """First step size of Adam, which falls in a straight line to zero."""
    discount: float | None = None
    """Worth of a reward one step later; by default .99, for the book .95."""
    epsilon: float = 0.1
    """Share of random actions in the second half of the training; in the first it falls from 1 to this."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "n_steps", "environments", "memory", "time_limit", "batch_size")
        require_positive(self, "epochs", "steps", "learning_rate")
        require(self.warm_up >= 0, "--warm-up must not be negative", self.warm_up)
        require(self.target_every >= 0, "--target-every must not be negative", self.target_every)
        require(self.n_steps <= self.memory, "--n-steps must not exceed --memory", self.n_steps)
        require(self.discount is None or 0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(0 <= self.epsilon <= 1, "--epsilon must be between 0 and 1", self.epsilon)
        require(not (self.book and self.dueling), "--dueling is not for --book", "its network has one output")
        require(
            self.run.precision != "bf16", "values of neighbours differ by a hundredth: --precision must be fp32", "bf16"
        )

    @property
    def gamma(self) -> float:
        """Give the discount."""
        return self.discount or (0.95 if self.book else 0.99)


def make_environment(config: Config, maze: Maze, device: torch.device) -> MazeBatch:
    """Let many environments into the maze."""
    if config.goal == "sealed":
        walls = maze.walls.clone()
        walls[maze.exit] = True
        maze = replace(maze, walls=walls)
    starts = None
    if config.starts == "everywhere":
        floor = ~maze.walls
        floor[maze.exit] = False
        tiles = floor.flatten().nonzero().squeeze(1)
        starts = tiles[torch.randperm(len(tiles))][torch.arange(config.environments) % len(tiles)]
    rewards = "book" if config.book else "exit"
    return MazeBatch(
        [maze], config.environments, rewards=rewards, limit=config.time_limit, starts=starts, device=device
    )


def make_model(config: Config) -> nn.Module:
    """Build the network that the Config asks for."""
    shape = (2 * config.rows + 1, 2 * config.columns + 1)
    return BookNetwork(shape) if config.book else QNetwork(shape, dueling=config.dueling)


def make_replay(config: Config, device: torch.device) -> Replay:
    """Make the memory; one that knows only the newest steps has just the room for their returns."""
    rows = config.n_steps if config.replay == "newest" else config.memory
    alpha = 0.6 if config.replay == "prioritised" else 0.0
    return Replay(rows, config.environments, discount=config.gamma, n_steps=config.n_steps, alpha=alpha, device=device)


def epsilon_at(config: Config, step: int) -> float:
    """Share of random actions in step t of T: a line from 1 to epsilon at T / 2; the book's is .995^t, at least .01."""
    if config.book:
        return max(0.01, 0.995**step)
    progress = step / (config.epochs * config.steps)
    return max(config.epsilon, 1 - 2 * progress * (1 - config.epsilon))


@torch.no_grad()
def act(model: nn.Module, states: Tensor, epsilon: float) -> Tensor:
    """(M,) states -> (M,) actions: the best one, or with probability epsilon any"""
    anything = torch.randint(ACTIONS, states.shape, device=states.device)
    if epsilon >= 1:
        return anything
    best = model(states).argmax(1)
    return torch.where(torch.rand(states.shape, device=states.device) < epsilon, anything, best)


@torch.no_grad()
def targets(batch: Batch, model: nn.Module, target: nn.Module, *, double: bool) -> Tensor:
    """(B,) what the network should have said: y = R + g^k Q'(s', a*).

    a* = argmax over a of Q'(s', a) (Mnih et al. 2015), or of Q(s', a) with double (van Hasselt et al. 2016): whoever
    both chooses and values likes its own mistakes best.
    """
    values = target(batch.next_state)
    best = (model(batch.next_state) if double else values).argmax(1, keepdim=True)
    return batch.returned + batch.discount * values.gather(1, best).squeeze(1)


def train_step(
    model: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, *, double: bool = True
) -> tuple[Tensor, Tensor]:
    """Take one gradient step; return the loss and (B,) the errors y - Q(s, a), still on the device."""
    y = targets(batch, model, target, double=double)
    q = model(batch.state).gather(1, batch.action.unsqueeze(1)).squeeze(1)
    loss = (batch.weight * F.smooth_l1_loss(q, y, reduction="none")).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), (y - q).detach()


@torch.inference_mode()
def values_of(model: nn.Module, maze: Maze) -> Tensor:
    """(H, W, A) what the network says of every tile"""
    device = next(model.parameters()).device
    return model(torch.arange(maze.walls.numel(), device=device)).view(*maze.walls.shape, ACTIONS).cpu()


def train(config: Config) -> dict[str, float]:
    """Learn the maze and return what the greedy path is worth."""
    maze = maze_of(config)
    with Run.open(__name__, config, describe(config, maze)) as run:
        environment, memory = make_environment(config, maze, run.device), make_replay(config, run.device)
        model = make_model(config).to(run.device)
        target = deepcopy(model) if config.target_every else model
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        solved = Solved()
        parts = {"model": model, "target": target, "optimizer": optimizer, "memory": memory, "environment": environment}
        for epoch in run.epochs(config.epochs, config.steps, **parts, solved=solved):
            if epoch == 1:
                for _ in range(config.warm_up):
                    walk(environment, memory, model, epsilon=1.0)
            for step in range((epoch - 1) * config.steps, epoch * config.steps):
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * (1 - step / (config.epochs * config.steps))
                walk(environment, memory, model, epsilon_at(config, step))
                loss = torch.zeros((), device=run.device)
                if config.replay != "never" and len(memory) > 0:
                    batch = memory.sample(config.batch_size, beta=0.4 + 0.6 * epoch / config.epochs)
                    loss, errors = train_step(model, target, optimizer, batch, double=config.double)
                    memory.update(batch, errors)
                if config.target_every and step % config.target_every == 0:
                    target.load_state_dict(model.state_dict())
                run.step(loss, steps=config.environments)
            seconds = run.elapsed()
            seen = measure(values_of(model, maze), maze)
            solved.note(is_shortest(seen), seconds)
            run.log(run=seen)
        run.save(model)
        values = values_of(model, maze)
        report(run, values, maze)
        return run.finish(run={**measure(values, maze), "solved_seconds": solved.seconds or run.train_seconds})


def walk(environment: MazeBatch, memory: Replay, model: nn.Module, epsilon: float) -> None:
    """Let every environment take a step, and remember it."""
    state = environment.state
    action = act(model, state, epsilon)
    memory.add(state, action, environment.step(action))


def report(run: Run, values: Tensor, maze: Maze) -> None:
    """Draw the learning curve, the values of all tiles, the walked path and its film."""
    from common.drawing import plots

    panels = {
        "loss": ["train_loss"],
        "tiles from which the way is known": ["right_rate"],
        "steps to the exit": ["path_steps", "shortest_steps"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    show_walk(run, values, maze)


def restore(folder: Path) -> tuple[nn.Module, Config]:
    """Rebuild the network that a run saved; `maze_of` its Config is the maze that it knows."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """A step of every environment and a gradient step, for the device benchmark."""
    maze = maze_of(config)
    environment, memory = make_environment(config, maze, device), make_replay(config, device)
    model = make_model(config).to(device)
    target = deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    for _ in range(config.n_steps):
        walk(environment, memory, model, epsilon=1.0)

    def step() -> Tensor:
        walk(environment, memory, model, epsilon=0.5)
        return train_step(model, target, optimizer, memory.sample(config.batch_size), double=config.double)[0]

    return Workload(step, items=config.environments, unit="steps")
