"""Advantage actor-critic: a policy that does more of what went better than expected.

    python -m ch07_dqn.train actor_critic
    python -m ch07_dqn.train actor_critic --trace 1     # advantages from whole returns: less biased, noisier

The actor pi(a | s) acts, the critic V(s) says what to expect. Both learn from the newest steps of all environments and
then forget them (Mnih et al. 2016). The advantage A sums the critic's surprises d (Schulman et al. 2016):

    d[t] = r[t] + g V(s[t+1]) - V(s[t])                    without V(s[t+1]) where the exit was reached
    A[t] = d[t] + g l A[t+1]                               without A[t+1] where the episode ended
    loss = -mean A log pi(a | s) + c mean (V_old + A - V)^2 - h mean entropy of pi

Advantages are not divided by their standard deviation, as is often done: before the exit is found for the first time
they are nothing but noise, which that would make as large as what is learned from later.

Dimensions: T steps, M environments, A = 4 actions, H x W tiles.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from ch07_dqn.network import ACTIONS, ActorCritic
from ch07_dqn.one_maze import Solved, describe, is_shortest, maze_of, measure
from ch07_dqn.pictures import show_walk
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.mazes.batch import MazeBatch
from common.data.mazes.maze import Algorithm, Maze
from common.run import Run, load_weights


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the actor-critic."""

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
    environments: int = 256
    """Environments that share the maze."""
    time_limit: int = 10_000
    """Steps after which an episode is truncated."""
    rollout: int = 16
    """T: steps of every environment that a gradient step learns from."""
    epochs: int = 20
    """Rounds of training, with a look at the greedy path after each."""
    steps: int = 40
    """Gradient steps a round."""
    learning_rate: float = 2e-3
    """First step size of Adam, which falls in a straight line to zero."""
    discount: float = 0.99
    """Worth of a reward one step later."""
    trace: float = 0.95
    """l: 0 trusts the critic after one step, 1 sums what really came."""
    critic_weight: float = 0.5
    """c: how much the critic's error counts beside the actor's gain."""
    entropy_weight: float = 0.003
    """h: how much is paid for staying undecided."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(
            self, "rows", "columns", "environments", "time_limit", "rollout", "epochs", "steps", "learning_rate"
        )
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(0 <= self.trace <= 1, "--trace must be between 0 and 1", self.trace)
        require(0 <= self.critic_weight < float("inf"), "--critic-weight must not be negative", self.critic_weight)
        require(0 <= self.entropy_weight < float("inf"), "--entropy-weight must not be negative", self.entropy_weight)
        require(
            self.run.precision != "bf16", "values of neighbours differ by a hundredth: --precision must be fp32", "bf16"
        )


class Rollout(NamedTuple):
    """The newest steps of all environments, each (T, M)."""

    state: Tensor
    action: Tensor
    reward: Tensor
    next_state: Tensor
    terminated: Tensor
    truncated: Tensor


@torch.no_grad()
def act(model: ActorCritic, states: Tensor) -> Tensor:
    """(M,) states -> (M,) actions, drawn from the policy"""
    logits, _ = model(states)
    # argmax of logits + Gumbel noise is a draw from their softmax, and quicker than torch's multinomial.
    return (logits - torch.empty_like(logits).exponential_().log()).argmax(1)


def roll_out(model: ActorCritic, environment: MazeBatch, steps: int) -> Rollout:
    """Take `steps` steps in every environment; return them as a rollout."""
    moments = []
    for _ in range(steps):
        state = environment.state
        action = act(model, state)
        step = environment.step(action)
        moments.append((state, action, step.reward, step.next_state, step.terminated, step.truncated))
    return Rollout(*(torch.stack(kind) for kind in zip(*moments, strict=True)))


def advantages(rollout: Rollout, value: Tensor, ahead: Tensor, *, discount: float, trace: float) -> Tensor:
    """(T, M) how much better each action went than expected; `value` is V(s[t]), `ahead` V of the state reached"""
    surprise = rollout.reward + discount * ahead * ~rollout.terminated - value
    goes_on = ~(rollout.terminated | rollout.truncated)
    gained, after = torch.empty_like(surprise), torch.zeros_like(surprise[0])
    for t in reversed(range(len(surprise))):
        after = surprise[t] + discount * trace * goes_on[t] * after
        gained[t] = after
    return gained


def train_step(model: ActorCritic, optimizer: torch.optim.Optimizer, rollout: Rollout, config: Config) -> Tensor:
    """Take one gradient step on a rollout; return the loss, still on the device."""
    steps, environments = rollout.state.shape
    logits, value = model(rollout.state.flatten())
    with torch.no_grad():
        ahead = model(rollout.next_state.flatten())[1].view(steps, environments)
        old = value.detach().view(steps, environments)
        gained = advantages(rollout, old, ahead, discount=config.discount, trace=config.trace).flatten()
        worth = old.flatten() + gained
    policy = Categorical(logits=logits, validate_args=False)
    actor = -(policy.log_prob(rollout.action.flatten()) * gained).mean()
    critic = (worth - value).square().mean()
    loss = actor + config.critic_weight * critic - config.entropy_weight * policy.entropy().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def preferences_of(model: ActorCritic, maze: Maze) -> tuple[Tensor, Tensor]:
    """(H, W, A) logits of the policy, (H, W) values, of every tile"""
    device = next(model.parameters()).device
    logits, value = model(torch.arange(maze.walls.numel(), device=device))
    return logits.view(*maze.walls.shape, ACTIONS).cpu(), value.view(maze.walls.shape).cpu()


def train(config: Config) -> dict[str, float]:
    """Learn the maze and return what the most likely path is worth."""
    maze = maze_of(config)
    with Run.open(__name__, config, describe(config, maze)) as run:
        environment = MazeBatch([maze], config.environments, limit=config.time_limit, device=run.device)
        model = make_model(config).to(run.device)
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        solved = Solved()
        for epoch in run.epochs(
            config.epochs, config.steps, model=model, optimizer=optimizer, environment=environment, solved=solved
        ):
            for step in range((epoch - 1) * config.steps, epoch * config.steps):
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * (1 - step / (config.epochs * config.steps))
                loss = train_step(model, optimizer, roll_out(model, environment, config.rollout), config)
                run.step(loss, steps=config.rollout * config.environments)
            seconds = run.elapsed()
            seen = measure(preferences_of(model, maze)[0], maze)
            solved.note(is_shortest(seen), seconds)
            run.log(run=seen)
        run.save(model)
        logits, value = preferences_of(model, maze)
        report(run, logits, value, maze)
        return run.finish(run={**measure(logits, maze), "solved_seconds": solved.seconds or run.train_seconds})


def make_model(config: Config) -> ActorCritic:
    """Build the network that the Config asks for."""
    return ActorCritic((2 * config.rows + 1, 2 * config.columns + 1))


def report(run: Run, logits: Tensor, value: Tensor, maze: Maze) -> None:
    """Draw the learning curve, the critic's values under the actor's arrows, the walked path and its film."""
    from common.drawing import plots

    panels = {
        "loss": ["train_loss"],
        "tiles from which the way is known": ["right_rate"],
        "steps to the exit": ["path_steps", "shortest_steps"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    show_walk(run, logits, maze, value=value)


def restore(folder: Path) -> tuple[ActorCritic, Config]:
    """Rebuild the network that a run saved; `maze_of` its Config is the maze that it knows."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """A rollout and a gradient step, for the device benchmark."""
    environment = MazeBatch([maze_of(config)], config.environments, limit=config.time_limit, device=device)
    model = make_model(config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    return Workload(
        lambda: train_step(model, optimizer, roll_out(model, environment, config.rollout), config),
        items=config.rollout * config.environments,
        unit="steps",
    )
