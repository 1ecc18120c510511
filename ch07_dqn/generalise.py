"""One network for all mazes: trained on thousands, judged on mazes that it has never seen, and on larger ones.

    python -m ch07_dqn.train generalise
    python -m ch07_dqn.train generalise --network convolutional     # an ordinary one, for contrast
    python -m ch07_dqn.train generalise --epochs 4                  # by steps instead of by the clock: repeatable

Q-learning, but with every action on every tile of a batch of mazes at once: the environment is a table, so asking it
for all of them costs one look-up. The planner learns what can be had within k steps from what can be had within k - 1
(De Asis et al. 2020), for small k, so that no value leans on itself:

    Q_k(s, a) = r + g max over a' of Q_(k-1)(s', a')        Q_0 = 0, and nothing after r at an exit

What is learned from is rewards and where steps lead, nothing else; breadth-first search only measures the paths.

Dimensions: B mazes a step, N mazes, H x W tiles, A = 4 actions.
"""

import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ch07_dqn.pictures import show_walk
from ch07_dqn.planner import Convolutional, Planner, planes_of
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.mazes.batch import MazeBatch, next_states, rewards_of
from common.data.mazes.maze import CARVE, Maze, card_of, distances, draw_mazes
from common.run import Run, load_weights
from common.schedule import linear_at, out_of_time, progress, set_learning_rate

LOOPS = (0.0, 0.1)
"""Half of the mazes are perfect, half have a tenth of their remaining walls opened: there one can go a longer way."""

SEEDS = {"train": 0, "valid": 1, "test": 2, "large": 3}
"""Seeds of the mazes of each split: every run has the same."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the network for all mazes."""

    network: Literal["planner", "convolutional"] = "planner"
    """A network that repeats what it has learned about one step, or one of fixed depth."""
    mazes: int = 4_000
    """Mazes to train on, a third by each algorithm, half of them with loops."""
    tests: int = 1_000
    """Mazes of the same size to be judged on."""
    large_tests: int = 300
    """Mazes of twice the size to be judged on."""
    rows: int = 5
    """Rows of cells; the larger mazes have twice as many."""
    columns: int = 10
    """Columns of cells; the larger mazes have twice as many."""
    budget: float = 60.0
    """Seconds of training, evaluation apart. The schedule follows the clock."""
    epochs: int | None = None
    """Rounds of 100 steps instead: the schedule follows the steps, and the run can be repeated."""
    batch_size: int = 32
    """Mazes a step, each with all of its tiles and actions."""
    horizon: int = 8
    """Most steps that the planner looks ahead in training; each batch draws a number up to this."""
    target_every: int | None = None
    """Steps after which a target network becomes a copy of the learning one; 0 goes without. By default 0, for the
    convolutional network 50: it has no horizon, so its values lean on themselves."""
    learning_rate: float | None = None
    """First step size of Adam, which falls in a straight line to zero; by default .01, for the convolutional .001."""
    discount: float = 0.99
    """Worth of a reward one step later."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "mazes", "tests", "large_tests", "rows", "columns", "budget", "epochs", "batch_size")
        require_positive(self, "horizon", "learning_rate")
        require((self.target_every or 0) >= 0, "--target-every must not be negative", self.target_every)
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(
            self.run.precision != "bf16", "values of neighbours differ by a hundredth: --precision must be fp32", "bf16"
        )


STEPS = 100
"""Gradient steps a round."""


class Backups(NamedTuple):
    """Everything that can happen in a batch of mazes."""

    picture: Tensor
    """(B, 2, H, W)"""
    reward: Tensor
    """(B, H, W, A)"""
    next_state: Tensor
    """(B, H, W, A) the state that each action leads to, numbered through the batch"""
    counts: Tensor
    """(B, H, W) bool: tiles where somebody can stand and act"""
    ends: Tensor
    """(B H W,) bool: states after which nothing comes"""


def draw_split(config: Config, split: str, count: int, *, scale: int = 1) -> list[Maze]:
    """Draw the mazes of a split."""
    size = config.rows * scale, config.columns * scale
    limit = config.run.limit or count
    return draw_mazes(min(count, limit), *size, seed=SEEDS[split], algorithms=tuple(CARVE), loops=LOOPS)


def unseen(mazes: Sequence[Maze], known: Sequence[Maze]) -> list[Maze]:
    """Leave out the mazes that are known; raises ValueError where none is left."""
    walls = {str(maze) for maze in known}
    fresh = [maze for maze in mazes if str(maze) not in walls]
    require(len(fresh) > 0, "every maze of that size is in the training set: take more --rows or --columns", len(mazes))
    return fresh


def draw_batch(walls: Tensor, exits: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """(N, H, W), (N,) tile of each exit -> (B, H, W) some of the mazes, (B,) states of the exits

    Half of the exits stay where they are, the others move to any floor tile: a maze with as many tasks as tiles.
    """
    index = torch.randint(len(walls), (batch_size,), device=walls.device)
    chosen = walls[index]
    anywhere = torch.multinomial((~chosen).flatten(1).float(), 1).squeeze(1)
    stays = torch.rand(batch_size, device=walls.device) < 0.5
    tile = torch.where(stays, exits[index], anywhere)
    return chosen, tile + torch.arange(batch_size, device=walls.device) * chosen[0].numel()


def backups(walls: Tensor, exits: Tensor) -> Backups:
    """List what every action on every tile pays (1 at the exit) and where it leads."""
    ends = torch.zeros(walls.numel(), dtype=torch.bool, device=walls.device).index_fill_(0, exits, True)
    goal = ends.view(walls.shape)
    reward = rewards_of(walls, goal.float(), bump=0.0)
    return Backups(planes_of(walls, exits), reward, next_states(walls), ~walls & ~goal, ends)


@torch.no_grad()
def targets(transitions: Backups, values: Tensor, discount: float) -> Tensor:
    """(B, H, W, A) y = r + g max over a' of Q'(s', a'), without the maximum where s' is an exit"""
    future = values.amax(3).flatten().masked_fill(transitions.ends, 0)
    return transitions.reward + discount * future[transitions.next_state]


def train_step(
    model: nn.Module,
    target: nn.Module,
    optimizer: torch.optim.Optimizer,
    transitions: Backups,
    *,
    ahead: int,
    discount: float,
) -> Tensor:
    """Take one gradient step on all states and actions of a batch of mazes; return the loss, still on the device."""
    with torch.no_grad():
        y = targets(transitions, target(transitions.picture, ahead - 1), discount)
    q = model(transitions.picture, ahead)
    loss = (q - y)[transitions.counts].square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def values_of(model: nn.Module, mazes: Sequence[Maze]) -> Tensor:
    """(N, H, W, A) what the network says of every tile of mazes of one size

    It looks as far ahead as a path can be long: half of the tiles.
    """
    device = next(model.parameters()).device
    walls = torch.stack([maze.walls for maze in mazes]).to(device)
    exits = torch.tensor([r * walls.shape[2] + c for r, c in (maze.exit for maze in mazes)], device=device)
    parts = []
    for first in range(0, len(walls), 50):
        some = walls[first : first + 50]
        numbered = exits[first : first + 50] + torch.arange(len(some), device=device) * some[0].numel()
        parts.append(model(planes_of(some, numbered), walls[0].numel() // 2).cpu())
    return torch.cat(parts)


def walk_all(values: Tensor, mazes: Sequence[Maze]) -> Tensor:
    """(N, H, W, A) -> (N,) steps to the exit along the best actions; 0 where they never lead there"""
    tiles = mazes[0].walls.numel()
    environment = MazeBatch(mazes, limit=tiles)  # a walk without a circle cannot be longer
    best = values.argmax(3).flatten()
    arrived = torch.zeros(len(mazes), dtype=torch.int64)
    for number in range(1, tiles):
        step = environment.step(best[environment.state])
        arrived = torch.where(step.terminated & (arrived == 0), number, arrived)
    return arrived


def measure(model: nn.Module, mazes: Sequence[Maze]) -> dict[str, float]:
    """Share of the mazes that are solved, and how long their paths are against the shortest, unless none is solved."""
    steps = walk_all(values_of(model, mazes), mazes).double()
    shortest = torch.tensor([int(distances(maze)[maze.start]) for maze in mazes])
    solved = steps > 0
    found = {
        "solve_rate": float(solved.double().mean()),
        "shortest_rate": float((steps == shortest).double().mean()),
        "mean_shortest": float(shortest.double().mean()),
    }
    if solved.any():
        found["path_over_shortest"] = float((steps / shortest)[solved].mean())
    return found


def make_model(config: Config) -> nn.Module:
    """Build the network that the Config asks for."""
    return Planner() if config.network == "planner" else Convolutional()


def step_size(config: Config) -> float:
    """Give the first step size."""
    return config.learning_rate or (1e-2 if config.network == "planner" else 1e-3)


def target_every(config: Config) -> int:
    """Give the steps between two copies to the target network; 0 for none."""
    if config.target_every is not None:
        return config.target_every
    return 0 if config.network == "planner" else 50


def train(config: Config) -> dict[str, float]:
    """Fit the network within the budget and return how it does on mazes that it has not seen."""
    drawn = draw_split(config, "train", config.mazes)
    valid = unseen(draw_split(config, "valid", 100), drawn)
    tests = unseen(draw_split(config, "test", config.tests), drawn)
    height, width = drawn[0].walls.shape
    sizes = f"{len(drawn):,} train, {len(valid):,} valid, {len(tests):,} test of {height}x{width} tiles"
    with Run.open(__name__, config, card_of([*drawn, *valid, *tests], sizes)) as run:
        walls = torch.stack([maze.walls for maze in drawn]).to(run.device)
        exits = torch.tensor([r * width + c for r, c in (maze.exit for maze in drawn)], device=run.device)
        model = make_model(config).to(run.device)
        every = target_every(config)
        target = deepcopy(model) if every else model
        optimizer = torch.optim.Adam(model.parameters(), step_size(config), fused=True)
        steps = config.epochs and config.epochs * STEPS
        for epoch in run.epochs(config.epochs, STEPS, model=model, target=target, optimizer=optimizer):
            for step in range((epoch - 1) * STEPS, epoch * STEPS):
                done = progress(step, steps, run.elapsed(), config.budget)
                set_learning_rate(optimizer, linear_at(done, step_size(config)))
                transitions = backups(*draw_batch(walls, exits, config.batch_size))
                ahead = random.randint(1, config.horizon)
                loss = train_step(model, target, optimizer, transitions, ahead=ahead, discount=config.discount)
                if every and step % every == 0:
                    target.load_state_dict(model.state_dict())
                run.step(loss, mazes=config.batch_size)
                if out_of_time(config.epochs, run.elapsed(), config.budget):
                    run.end()
                    break
            run.log(valid=measure(model, valid))
        run.save(model)
        large = draw_split(config, "large", config.large_tests, scale=2)
        found = {"test": measure(model, tests), "large": measure(model, large)}
        report(run, model, large)
        return run.finish(**found)


def report(run: Run, model: nn.Module, large: Sequence[Maze]) -> None:
    """Draw the learning curve, and the walk through one of the larger mazes."""
    from common.drawing import plots

    panels = {"loss": ["train_loss"], "mazes solved": ["valid_solve_rate"]}
    run.figure("curves", plots.curves(run.history, panels))
    show_walk(run, values_of(model, large[:1])[0], large[0])


def restore(folder: Path) -> tuple[nn.Module, Config]:
    """Rebuild the network that a run saved."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of mazes, for the device benchmark."""
    mazes = draw_split(config, "train", config.batch_size)
    walls = torch.stack([maze.walls for maze in mazes]).to(device)
    exits = torch.tensor([r * walls.shape[2] + c for r, c in (maze.exit for maze in mazes)], device=device)
    model = make_model(config).to(device)
    target = deepcopy(model) if target_every(config) else model
    optimizer = torch.optim.Adam(model.parameters(), step_size(config), fused=True)

    def step() -> Tensor:
        transitions = backups(*draw_batch(walls, exits, config.batch_size))
        return train_step(model, target, optimizer, transitions, ahead=config.horizon, discount=config.discount)

    return Workload(step, items=config.batch_size, unit="mazes")
