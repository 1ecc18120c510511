"""Advantage actor-critic (A2C): one gradient step on each short rollout, with a learned value function.

    python -m ch07_dqn.train actor_critic
    python -m ch07_dqn.train actor_critic --gae-lambda 1      # Monte Carlo advantages: less bias, more variance

REINFORCE waits for the end of the episodes. The critic V(s) estimates the rest of a return, so an update needs only a
few steps (Mnih et al. 2016). With the generalised advantage estimates A of `advantages.py`,

    loss = -mean A log pi(a | s) + c mean (V_old + A - V)^2 - h mean entropy of pi

Dimensions: T steps, M environments, D numbers per observation, A actions, H hidden units.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ch07_dqn.agents.advantages import generalised_advantages
from ch07_dqn.agents.evaluation import Keep, final_test, greedy, validate
from ch07_dqn.agents.vector_environment import Task, VectorEnvironment, task_of
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, read_config, require, require_positive
from common.run import Run, load_weights
from common.schedule import linear_at, set_learning_rate


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the actor-critic."""

    environment: str = "CartPole-v1"
    """Name of a gymnasium environment with discrete actions, for example Acrobot-v1, MountainCar-v0 or Maze-v0."""
    time_limit: int | None = None
    """Steps after which an episode is truncated. Default: that of the environment."""
    environments: int = 16
    """Number M of parallel environments."""
    environment_steps: int = 200_000
    """Number of environment steps of the training."""
    rollout: int = 8
    """Rollout length T: steps of each environment per gradient step."""
    epochs: int = 20
    """Number of epochs; the greedy policy is evaluated after each."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam; decays linearly to zero."""
    discount: float = 0.98
    """Discount factor gamma."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation; 0 uses one-step TD errors, 1 Monte Carlo returns."""
    critic_weight: float = 0.5
    """Weight c of the critic loss."""
    entropy_weight: float = 0.0
    """Weight h of the entropy bonus, which encourages exploration."""
    gradient_norm: float = 0.5
    """Maximum gradient norm; larger gradients are rescaled. 0 does not limit it."""
    hidden_size: int = 64
    """Number H of hidden units of each of the two hidden layers."""
    keep: Keep = "best"
    """Weights to save and to test: of the epoch with the highest validation return (the latest of equal ones), or the
    last ones."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "time_limit", "environments", "environment_steps", "rollout", "epochs")
        require_positive(self, "learning_rate", "hidden_size")
        require(0 < self.discount <= 1, "--discount must be above 0 and at most 1", self.discount)
        require(0 <= self.gae_lambda <= 1, "--gae-lambda must be between 0 and 1", self.gae_lambda)
        for name in ("critic_weight", "entropy_weight", "gradient_norm"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"--{name.replace('_', '-')} must not be negative", value)
        require(self.run.precision != "bf16", "--precision must be fp32: the networks are small", "bf16")

    @property
    def rollouts(self) -> int:
        """Number of rollouts, and gradient steps, per epoch."""
        return max(1, round(self.environment_steps / (self.epochs * self.rollout * self.environments)))


class ActorCritic(nn.Module):
    """Policy D -> H -> H -> A and, as a separate network, the value function D -> H -> H -> 1."""

    def __init__(self, task: Task, config: Config) -> None:
        super().__init__()
        self.actor = network(task.observation_size, config.hidden_size, task.actions)
        self.critic = network(task.observation_size, config.hidden_size, 1)

    def values(self, observations: Tensor) -> Tensor:
        """(..., D) observations -> (...) state values"""
        return self.critic(observations).squeeze(-1)

    def forward(self, observations: Tensor) -> Tensor:
        """(..., D) observations -> (..., A) logits of the policy"""
        return self.actor(observations)


def network(inputs: int, hidden_size: int, outputs: int) -> nn.Sequential:
    """Create a network with two hidden layers of tanh units."""
    return nn.Sequential(
        nn.Linear(inputs, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size), nn.Tanh(),
        nn.Linear(hidden_size, outputs),
    )  # fmt: skip


class Rollout(NamedTuple):
    """T steps of all environments, each field (T, M) or (T, M, D)."""

    observation: Tensor
    action: Tensor
    next_observation: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor


@torch.no_grad()
def roll_out(model: ActorCritic, environment: VectorEnvironment, steps: int) -> Rollout:
    """Collect a rollout: `steps` steps of every environment, with actions sampled from the policy."""
    transitions = []
    for _ in range(steps):
        observation = environment.observation
        logits = model(observation)
        # Gumbel-max trick: argmax of logits + Gumbel noise is a sample of their softmax, faster than torch.multinomial.
        action = (logits - torch.empty_like(logits).exponential_().log()).argmax(1)
        step = environment.step(action)
        transitions.append((observation, action, *step))
    return Rollout(*(torch.stack(values) for values in zip(*transitions, strict=True)))


class Losses(NamedTuple):
    """Losses and diagnostics of a gradient step, scalars on the device."""

    loss: Tensor
    policy_loss: Tensor
    critic_loss: Tensor
    entropy: Tensor


def losses(model: ActorCritic, rollout: Rollout, config: Config) -> Losses:
    """Compute the loss of a rollout, with its parts."""
    value = model.values(rollout.observation)
    with torch.no_grad():
        advantage = generalised_advantages(
            rollout.reward,
            value,
            model.values(rollout.next_observation),
            rollout.terminated,
            rollout.truncated,
            discount=config.discount,
            gae_lambda=config.gae_lambda,
        )
        value_target = value + advantage
    log_probs = model(rollout.observation).log_softmax(-1)
    log_prob = log_probs.gather(-1, rollout.action.unsqueeze(-1)).squeeze(-1)
    policy_loss = -(advantage * log_prob).mean()
    critic_loss = (value_target - value).square().mean()
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    loss = policy_loss + config.critic_weight * critic_loss - config.entropy_weight * entropy
    return Losses(loss, policy_loss, critic_loss, entropy)


def train_step(model: ActorCritic, optimizer: torch.optim.Optimizer, rollout: Rollout, config: Config) -> Tensor:
    """Take one gradient step on a rollout; return the (4,) losses and diagnostics, on the device."""
    parts = losses(model, rollout, config)
    parts.loss.backward()
    if config.gradient_norm:
        nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
    optimizer.step()
    optimizer.zero_grad()
    return torch.stack(parts).detach()


def train(config: Config) -> dict[str, float]:
    """Train the policy; return the mean return of its most probable actions over 100 test episodes."""
    task = task_of(config.environment, config.time_limit)
    total_rollouts, steps_per_rollout = config.epochs * config.rollouts, config.rollout * config.environments
    with Run.open(__name__, config, task.card(f"; {total_rollouts * steps_per_rollout:,} steps for training")) as run:
        environment = VectorEnvironment(
            config.environment,
            config.environments,
            seed=config.run.seed,
            time_limit=config.time_limit,
            device=run.device,
        )
        model = ActorCritic(task, config).to(run.device)
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        best = BestWeights(model, latest=True)
        checkpointed = {"model": model, "optimizer": optimizer, "environment": environment, "best": best}

        for epoch in run.epochs(config.epochs, config.rollouts, **checkpointed):
            parts = []
            for number in range((epoch - 1) * config.rollouts, epoch * config.rollouts):
                set_learning_rate(optimizer, linear_at(number / total_rollouts, config.learning_rate))
                rollout = roll_out(model, environment, config.rollout)
                parts.append(train_step(model, optimizer, rollout, config))
                run.step(parts[-1][0], steps=steps_per_rollout)

            _, *means = torch.stack(parts).mean(0).tolist()
            valid = validate(model, config)
            best.update(-valid["return"], epoch)
            run.log(
                run={**environment.statistics(), **dict(zip(Losses._fields[1:], means, strict=True))},
                valid=valid,
            )

        if config.keep == "best":
            best.restore()
        run.save(model)
        report(run)
        return run.finish(test=final_test(greedy(model), config, run.device), run=environment.statistics())


def report(run: Run) -> None:
    """Draw the learning curves."""
    from common.drawing import plots

    panels = {
        "return": ["episode_return", "valid_return"],
        "critic loss": ["critic_loss"],
        "entropy of the policy": ["entropy"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[ActorCritic, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = ActorCritic(task_of(config.environment, config.time_limit), config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step for the device benchmark: one rollout and one gradient step."""
    environment = VectorEnvironment(
        config.environment, config.environments, time_limit=config.time_limit, device=device
    )
    model = ActorCritic(environment.task, config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    return Workload(
        lambda: train_step(model, optimizer, roll_out(model, environment, config.rollout), config),
        items=config.rollout * config.environments,
        unit="steps",
    )
