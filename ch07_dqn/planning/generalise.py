"""Generalisation: one network for all mazes, trained on thousands, tested on unseen and on larger mazes.

    python -m ch07_dqn.train generalise
    python -m ch07_dqn.train generalise --network convolutional     # a convolutional network of fixed depth
    python -m ch07_dqn.train generalise --epochs 4                  # epochs instead of a time budget: reproducible
    python -m ch07_dqn.train generalise --model learned             # a model of the mazes, learned from random walks

Fitted value iteration: every gradient step uses all actions on all tiles of a batch of mazes. It needs a model: the
simulator, a table of transitions, of which every entry used counts as an environment step, or a network that has
learned the transitions from random walks. Q-learning would use transitions that an agent has visited. The targets have
a fixed horizon (De Asis et al. 2020): values for k steps are trained on the network's own values for k - 1 steps, with
small k, so no value bootstraps from itself:

    Q_k(s, a) = r + g max over a' of Q_(k-1)(s', a')        with Q_0 = 0, and only r if s' is terminal

The training uses rewards and next states only; breadth-first search measures the paths.

Dimensions: B batch of mazes, N mazes, H x W tiles, A = 4 actions.
"""

import math
import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ch07_dqn.mazes.pictures import save_pictures
from ch07_dqn.planning.local_model import LocalModel, fit, model_errors, random_walks
from ch07_dqn.planning.planner import Convolutional, Planner, planes_of
from ch07_dqn.planning.transitions import Model, Transitions, exit_tiles, sample_batch, transitions_of
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.mazes.batch import ACTIONS, MazeBatch
from common.data.mazes.maze import CARVE, Maze, card_of, distances, draw_mazes
from common.run import Run, load_weights
from common.schedule import linear_at, out_of_time, progress, set_learning_rate

LOOPS = (0.0, 0.1)
"""Fraction of the remaining walls that is removed: 0 in half of the mazes (one path between any two tiles), or 0.1."""

SEEDS = {"train": 0, "valid": 1, "test": 2, "large": 3}
"""Random seeds of the mazes of each split, the same in every run."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the network for all mazes."""

    network: Literal["planner", "convolutional"] = "planner"
    """Network architecture: a value iteration network, or a convolutional network of fixed depth."""
    model: Literal["given", "learned"] = "given"
    """Model of the environment: the given simulator, or one that is learned from random walks in the training set."""
    environment_steps: int = default_by("model", given=0, learned=20_000)
    """Number of environment steps. given: training ends after them, 0 for no limit. learned: steps of the random walks.
    Default: 0 (given) or 20,000 (learned)."""
    mazes: int = 4_000
    """Size of the training set; each generation algorithm makes a third of the mazes, half of them with loops."""
    tests: int = 1_000
    """Size of the test set of mazes of the same size."""
    large_tests: int = 300
    """Size of the test set of mazes with twice as many rows and columns."""
    rows: int = 5
    """Rows of cells; the larger mazes have twice as many."""
    columns: int = 10
    """Columns of cells; the larger mazes have twice as many."""
    budget: float = 60.0
    """Training time in seconds, excluding evaluation; it also sets the learning rate schedule."""
    epochs: int | None = None
    """Number of epochs of 100 gradient steps, instead of a time budget; makes the run reproducible."""
    batch_size: int = 32
    """Batch size: mazes per gradient step, each with all its tiles and actions."""
    horizon: int = 8
    """Maximum planning horizon in training; the horizon k of a batch is sampled from 1 to this number."""
    target_every: int = default_by("network", planner=0, convolutional=50)
    """Number of gradient steps between two updates of the target network; 0 trains without one. Default: 0 for the
    planner; 50 for the convolutional network, which has no horizon, so its values bootstrap from themselves."""
    learning_rate: float = default_by("network", planner=1e-2, convolutional=1e-3)
    """Initial learning rate of Adam; decays linearly to zero. Default: 0.01 (planner) or 0.001 (convolutional)."""
    discount: float = 0.99
    """Discount factor gamma."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "mazes", "tests", "large_tests", "rows", "columns", "budget", "epochs", "batch_size")
        require_positive(self, "horizon", "learning_rate")
        require(self.environment_steps >= 0, "--environment-steps must not be negative", self.environment_steps)
        if self.model == "learned":
            require(self.environment_steps > 0, "--model learned needs --environment-steps above 0", 0)
        else:
            ends = self.epochs is None or self.environment_steps == 0
            require(ends, "--epochs and --environment-steps cannot be used together with --model given", "both")
        require(self.target_every >= 0, "--target-every must not be negative", self.target_every)
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(
            self.run.precision != "bf16", "--precision must be fp32 (Q-values of adjacent tiles differ by 1 %)", "bf16"
        )


STEPS = 100
"""Gradient steps per epoch."""


def draw_split(config: Config, split: str, count: int, *, scale: int = 1) -> list[Maze]:
    """Generate the mazes of a split."""
    size = config.rows * scale, config.columns * scale
    limit = config.run.limit or count
    return draw_mazes(min(count, limit), *size, seed=SEEDS[split], algorithms=tuple(CARVE), loops=LOOPS)


def unseen(mazes: Sequence[Maze], training_set: Sequence[Maze]) -> list[Maze]:
    """Return the mazes that are not in the training set; raises ValueError if there are none."""
    known = {str(maze) for maze in training_set}
    remaining = [maze for maze in mazes if str(maze) not in known]
    require(
        len(remaining) > 0, "all mazes of this size are in the training set: increase --rows or --columns", len(mazes)
    )
    return remaining


@torch.no_grad()
def targets(transitions: Transitions, values: Tensor, discount: float) -> Tensor:
    """Return the (B, H, W, A) TD targets y = r + g max over a' of Q'(s', a'), or r alone if s' is terminal."""
    next_value = values.amax(3).flatten()[transitions.next_state].masked_fill(transitions.ended, 0)
    return transitions.reward + discount * next_value


def train_step(
    model: nn.Module,
    target_network: nn.Module,
    optimizer: torch.optim.Optimizer,
    transitions: Transitions,
    *,
    horizon: int,
    discount: float,
) -> Tensor:
    """Take one gradient step on all states and actions of a batch of mazes; return the loss, on the device."""
    with torch.no_grad():
        y = targets(transitions, target_network(transitions.image, horizon - 1), discount)
    q = model(transitions.image, horizon)
    loss = (q - y)[transitions.mask].square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def values_of(model: nn.Module, mazes: Sequence[Maze]) -> Tensor:
    """Return the (N, H, W, A) Q-values of all tiles of mazes of one size.

    The horizon is half the number of tiles; no shortest path of a generated maze is longer.
    """
    device = next(model.parameters()).device
    walls = torch.stack([maze.walls for maze in mazes]).to(device)
    exits = exit_tiles(mazes, device)
    values = []
    for first in range(0, len(walls), 50):
        chunk = walls[first : first + 50]
        states = exits[first : first + 50] + torch.arange(len(chunk), device=device) * chunk[0].numel()
        values.append(model(planes_of(chunk, states), walls[0].numel() // 2).cpu())
    return torch.cat(values)


def path_lengths(values: Tensor, mazes: Sequence[Maze]) -> Tensor:
    """(N, H, W, A) Q-values -> (N,) steps of the greedy path to the exit; 0 if it does not reach it"""
    tiles = mazes[0].walls.numel()
    environment = MazeBatch(mazes, limit=tiles)  # a path without cycle is shorter
    greedy = values.argmax(3).flatten()
    lengths = torch.zeros(len(mazes), dtype=torch.int64)
    for number in range(1, tiles):
        step = environment.step(greedy[environment.state])
        lengths = torch.where(step.terminated & (lengths == 0), number, lengths)
    return lengths


def measure(model: nn.Module, mazes: Sequence[Maze]) -> dict[str, float]:
    """Return the share of solved mazes, and the mean ratio of their path length to the shortest if any is solved."""
    steps = path_lengths(values_of(model, mazes), mazes).double()
    shortest = torch.tensor([int(distances(maze)[maze.start]) for maze in mazes])
    solved = steps > 0
    metrics = {
        "solve_rate": float(solved.double().mean()),
        "shortest_rate": float((steps == shortest).double().mean()),
        "mean_shortest": float(shortest.double().mean()),
    }
    if solved.any():
        metrics["path_over_shortest"] = float((steps / shortest)[solved].mean())
    return metrics


def make_model(config: Config) -> nn.Module:
    """Create the network."""
    return Planner() if config.network == "planner" else Convolutional()


def steps_per_gradient(walls: Tensor, batch_size: int) -> float:
    """Return the mean number of environment steps of a gradient step: all actions on all floor tiles but the exit."""
    states = float((~walls).sum()) / len(walls) - 1
    return batch_size * states * ACTIONS


def gradient_steps(config: Config, walls: Tensor) -> int | None:
    """Return the number of gradient steps of the training; None if the time budget ends it."""
    if config.model == "given" and config.environment_steps:
        return max(1, round(config.environment_steps / steps_per_gradient(walls, config.batch_size)))
    return config.epochs and config.epochs * STEPS


def sample_efficiency(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the steps and seconds until 90 % and 99 % of the validation mazes were solved, if they were."""
    found = {}
    for percent in (90, 99):
        row = next((row for row in history if row["valid_solve_rate"] >= percent / 100), None)
        if row is not None:
            before = [earlier for earlier in history if earlier["epoch"] <= row["epoch"]]
            found |= {
                f"solve_{percent}_environment_steps": row["environment_steps"],
                f"solve_{percent}_gradient_steps": sum(earlier["steps"] for earlier in before),
                f"solve_{percent}_seconds": sum(earlier["seconds"] for earlier in before),
            }
    return found


def train(config: Config) -> dict[str, float]:
    """Train the network within the time budget; return its metrics on unseen mazes."""
    training = draw_split(config, "train", config.mazes)
    valid = unseen(draw_split(config, "valid", 100), training)
    test = unseen(draw_split(config, "test", config.tests), training)
    height, width = training[0].walls.shape
    sizes = f"{len(training):,} train, {len(valid):,} valid, {len(test):,} test of {height}x{width} tiles"
    with Run.open(__name__, config, card_of([*training, *valid, *test], sizes)) as run:
        walls = torch.stack([maze.walls for maze in training]).to(run.device)
        exits = exit_tiles(training, run.device)
        model = make_model(config).to(run.device)
        target_network = deepcopy(model) if config.target_every else model
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        checkpointed = {"model": model, "target_network": target_network, "optimizer": optimizer}
        environment, errors = learn_model(config, training, test, run.device)
        total_steps = gradient_steps(config, walls)
        epochs = total_steps and math.ceil(total_steps / STEPS)

        for epoch in run.epochs(epochs, STEPS, budget=config.budget, **checkpointed):
            used = int(run.history[-1]["environment_steps"]) if run.history else 0
            for step in range((epoch - 1) * STEPS, epoch * STEPS):
                done = progress(step, total_steps, run.elapsed(), config.budget)
                set_learning_rate(optimizer, linear_at(done, config.learning_rate))

                transitions = environment(*sample_batch(walls, exits, config.batch_size))
                horizon = random.randint(1, config.horizon)
                loss = train_step(
                    model, target_network, optimizer, transitions, horizon=horizon, discount=config.discount
                )

                if config.target_every and step % config.target_every == 0:
                    target_network.load_state_dict(model.state_dict())
                used += transitions.mask.sum() * ACTIONS
                run.step(loss, mazes=config.batch_size)
                if step + 1 == total_steps or out_of_time(epochs, run.elapsed(), config.budget):
                    run.end()
                    break
            used = int(used) if config.model == "given" else config.environment_steps
            run.log(valid=measure(model, valid), run={"environment_steps": used})

        run.save(model)
        large = draw_split(config, "large", config.large_tests, scale=2)
        metrics = {"test": measure(model, test), "large": measure(model, large)}
        if errors:
            metrics["model"] = errors
        report(run, model, large)
        used = run.history[-1]["environment_steps"]
        return run.finish(**metrics, run={"environment_steps": used, **sample_efficiency(run.history)})


def learn_model(
    config: Config, training: Sequence[Maze], test: Sequence[Maze], device: torch.device
) -> tuple[Model, dict[str, float]]:
    """Return the simulator, or a model learned from random walks and its errors on unseen mazes."""
    if config.model == "given":
        return transitions_of, {}
    experience = random_walks(training, config.environment_steps)
    local = LocalModel(experience.reward.unique()).to(device)
    fit(local, experience)
    return local.transitions, model_errors(local, test)


def report(run: Run, model: nn.Module, large: Sequence[Maze]) -> None:
    """Draw the learning curves, and the greedy path through one of the larger mazes."""
    from common.drawing import plots

    panels = {"loss": ["train_loss"], "mazes solved": ["valid_solve_rate"]}
    run.figure("curves", plots.curves(run.history, panels))
    save_pictures(run, values_of(model, large[:1])[0], large[0])


def restore(folder: Path) -> tuple[nn.Module, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on a batch of mazes, for the device benchmark."""
    mazes = draw_split(config, "train", config.batch_size)
    walls = torch.stack([maze.walls for maze in mazes]).to(device)
    exits = exit_tiles(mazes, device)
    model = make_model(config).to(device)
    target_network = deepcopy(model) if config.target_every else model
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    environment = (
        transitions_of if config.model == "given" else LocalModel(torch.tensor([0.0, 1.0])).to(device).transitions
    )

    def step() -> Tensor:
        transitions = environment(*sample_batch(walls, exits, config.batch_size))
        return train_step(
            model, target_network, optimizer, transitions, horizon=config.horizon, discount=config.discount
        )

    return Workload(step, items=config.batch_size, unit="mazes")
