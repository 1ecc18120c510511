"""Advantage actor-critic (A2C): a policy gradient with a learned state value as baseline.

    python -m ch07_dqn.train maze_actor_critic
    python -m ch07_dqn.train maze_actor_critic --gae-lambda 1    # Monte Carlo advantages: less bias, more variance

The actor is the policy pi(a | s), the critic the state value V(s). Both are trained on-policy: every gradient step uses
a new rollout of all environments (Mnih et al. 2016). The advantages A are generalised advantage estimates, sums of the
TD errors d (Schulman et al. 2016):

    d[t] = r[t] + g V(s[t+1]) - V(s[t])                    without V(s[t+1]) if s[t+1] is terminal
    A[t] = d[t] + g l A[t+1]                               without A[t+1] if the episode ended
    loss = -mean A log pi(a | s) + c mean (V_old + A - V)^2 - h mean entropy of pi

The advantages are not normalised. Until the exit is reached for the first time they contain only errors of the critic;
normalisation would scale these errors to unit variance.

Dimensions: T steps, M environments, A = 4 actions, H x W tiles.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from ch07_dqn.mazes.network import ACTIONS, ActorCritic
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
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.mazes.batch import MazeBatch
from common.data.mazes.maze import Algorithm, Maze
from common.run import Run, load_weights
from common.schedule import linear_at, set_learning_rate


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the actor-critic."""

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
    time_limit: int = 10_000
    """Steps after which an episode is truncated."""
    rollout: int = 16
    """Rollout length T: steps of each environment per gradient step."""
    epochs: int = 20
    """Number of epochs; the greedy policy is evaluated after each."""
    steps: int = 40
    """Gradient steps per epoch."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam; decays linearly to zero."""
    discount: float = 0.99
    """Discount factor gamma."""
    gae_lambda: float = 0.95
    """Lambda (l) of generalised advantage estimation; 0 uses one-step TD errors, 1 Monte Carlo returns."""
    critic_weight: float = 0.5
    """Weight c of the critic loss."""
    entropy_weight: float = 0.003
    """Weight h of the entropy bonus, which encourages exploration."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(
            self, "rows", "columns", "environments", "time_limit", "rollout", "epochs", "steps", "learning_rate"
        )
        require(0 < self.discount < 1, "--discount must be between 0 and 1", self.discount)
        require(0 <= self.gae_lambda <= 1, "--gae-lambda must be between 0 and 1", self.gae_lambda)
        require(0 <= self.critic_weight < float("inf"), "--critic-weight must not be negative", self.critic_weight)
        require(0 <= self.entropy_weight < float("inf"), "--entropy-weight must not be negative", self.entropy_weight)
        require(
            self.run.precision != "bf16", "--precision must be fp32 (values of adjacent tiles differ by 1 %)", "bf16"
        )


class Rollout(NamedTuple):
    """T consecutive transitions of all environments, each field (T, M)."""

    state: Tensor
    action: Tensor
    reward: Tensor
    next_state: Tensor
    terminated: Tensor
    truncated: Tensor


def make_model(config: Config) -> ActorCritic:
    """Create the actor-critic network."""
    return ActorCritic((2 * config.rows + 1, 2 * config.columns + 1))


@torch.no_grad()
def act(model: ActorCritic, states: Tensor) -> Tensor:
    """(M,) states -> (M,) actions, sampled from the policy"""
    logits, _ = model(states)
    # Gumbel-max trick: argmax of logits + Gumbel noise is a sample of their softmax, faster than torch.multinomial.
    return (logits - torch.empty_like(logits).exponential_().log()).argmax(1)


def roll_out(model: ActorCritic, environment: MazeBatch, steps: int) -> Rollout:
    """Collect a rollout: `steps` steps of every environment with the current policy."""
    transitions = []
    for _ in range(steps):
        state = environment.state
        action = act(model, state)
        step = environment.step(action)
        transitions.append((state, action, step.reward, step.next_state, step.terminated, step.truncated))
    return Rollout(*(torch.stack(values) for values in zip(*transitions, strict=True)))


def advantages(rollout: Rollout, value: Tensor, next_value: Tensor, *, discount: float, gae_lambda: float) -> Tensor:
    """(T, M) values V(s[t]), (T, M) values V(s[t+1]) -> (T, M) generalised advantage estimates"""
    td_error = rollout.reward + discount * next_value * ~rollout.terminated - value
    continues = ~(rollout.terminated | rollout.truncated)
    advantage, last = torch.empty_like(td_error), torch.zeros_like(td_error[0])
    for t in reversed(range(len(td_error))):
        last = td_error[t] + discount * gae_lambda * continues[t] * last
        advantage[t] = last
    return advantage


def train_step(model: ActorCritic, optimizer: torch.optim.Optimizer, rollout: Rollout, config: Config) -> Tensor:
    """Take one gradient step on a rollout; return the loss, still on the device."""
    steps, environments = rollout.state.shape
    logits, value = model(rollout.state.flatten())
    with torch.no_grad():
        next_value = model(rollout.next_state.flatten())[1].view(steps, environments)
        old_value = value.detach().view(steps, environments)
        advantage = advantages(
            rollout, old_value, next_value, discount=config.discount, gae_lambda=config.gae_lambda
        ).flatten()
        value_target = old_value.flatten() + advantage
    policy = Categorical(logits=logits, validate_args=False)
    actor_loss = -(policy.log_prob(rollout.action.flatten()) * advantage).mean()
    critic_loss = (value_target - value).square().mean()
    loss = actor_loss + config.critic_weight * critic_loss - config.entropy_weight * policy.entropy().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def policy_and_values(model: ActorCritic, maze: Maze) -> tuple[Tensor, Tensor]:
    """Return the (H, W, A) logits of the policy and the (H, W) state values of all tiles."""
    device = next(model.parameters()).device
    logits, value = model(torch.arange(maze.walls.numel(), device=device))
    return logits.view(*maze.walls.shape, ACTIONS).cpu(), value.view(maze.walls.shape).cpu()


def train(config: Config) -> dict[str, float]:
    """Train the actor-critic in one maze; return the metrics of the policy's most probable actions."""
    maze = maze_of(config)
    total_steps = config.epochs * config.steps
    with Run.open(__name__, config, describe(config, maze)) as run:
        environment = MazeBatch([maze], config.environments, limit=config.time_limit, device=run.device)
        model = make_model(config).to(run.device)
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        solve_time = SolveTime()
        checkpointed = {"model": model, "optimizer": optimizer, "environment": environment, "solve_time": solve_time}

        for epoch in run.epochs(config.epochs, config.steps, **checkpointed):
            rollouts = []
            for step in range((epoch - 1) * config.steps, epoch * config.steps):
                set_learning_rate(optimizer, linear_at(step / total_steps, config.learning_rate))
                rollout = roll_out(model, environment, config.rollout)
                loss = train_step(model, optimizer, rollout, config)
                rollouts.append(rollout)
                run.step(loss, steps=config.rollout * config.environments)

            seconds, gradient_steps = run.elapsed(), epoch * config.steps
            environment_steps = gradient_steps * config.rollout * config.environments
            metrics = measure(policy_and_values(model, maze)[0], maze)
            solve_time.update(
                is_shortest(metrics), seconds=seconds, steps=environment_steps, gradient_steps=gradient_steps
            )
            run.log(run={**metrics, **episode_statistics(rollouts)})

        run.save(model)
        logits, value = policy_and_values(model, maze)
        report(run, logits, value, maze)
        return run.finish(run={**measure(logits, maze), **solve_time.metrics(), **last_episodes(run.history)})


def report(run: Run, logits: Tensor, value: Tensor, maze: Maze) -> None:
    """Draw the learning curves, the critic's values with the actor's actions, the greedy path and its animation."""
    from common.drawing import plots

    panels = {
        "loss": ["train_loss"],
        "tiles with an optimal greedy action": ["optimal_action_rate"],
        "steps to the exit": ["path_steps", "shortest_steps"],
        "return of the training episodes": ["episode_return"],
    }
    run.figure("curves", plots.curves(run.history, panels))
    save_pictures(run, logits, maze, value=value)


def restore(folder: Path) -> tuple[ActorCritic, Config]:
    """Load a trained network and its Config from a run folder; `maze_of(config)` returns its maze."""
    config = read_config(folder, Config)
    model = make_model(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step for the device benchmark: one rollout and one gradient step."""
    environment = MazeBatch([maze_of(config)], config.environments, limit=config.time_limit, device=device)
    model = make_model(config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    return Workload(
        lambda: train_step(model, optimizer, roll_out(model, environment, config.rollout), config),
        items=config.rollout * config.environments,
        unit="steps",
    )
