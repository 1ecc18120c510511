"""Proximal policy optimisation (PPO): several gradient steps on each rollout, with a clipped objective.

    python -m ch07_dqn.train ppo
    python -m ch07_dqn.train ppo --environment Acrobot-v1
    python -m ch07_dqn.train ppo --no-clip-objective          # without a detail; see the list of flags

Schulman et al. 2017. With the probability ratio p = pi(a | s) / pi_old(a | s) and the advantage A of the old policy,
the objective of an action is

    min(p A, clip(p, 1 - c, 1 + c) A).

It stops growing once the ratio has left the interval in the direction that A favours, so a gradient step cannot profit
from moving the policy further away from the one that collected the rollout. Each of the 13 core implementation details
of Huang et al. 2022 is a setting here.

Dimensions: T steps, M environments, B = T M transitions of a rollout, D numbers per observation, A actions, H hidden
units.
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
    """Hyperparameters of PPO."""

    environment: str = "CartPole-v1"
    """Name of a gymnasium environment with discrete actions, for example Acrobot-v1, MountainCar-v0 or Maze-v0."""
    time_limit: int | None = None
    """Steps after which an episode is truncated. Default: that of the environment."""
    environments: int = 8
    """Number M of parallel environments."""
    environment_steps: int = 100_000
    """Number of environment steps of the training."""
    rollout: int = 32
    """Rollout length T: steps of each environment before the policy is updated."""
    epochs: int = 20
    """Number of epochs; the greedy policy is evaluated after each."""
    passes: int = 10
    """Number of passes over each rollout."""
    minibatches: int = 1
    """Number of minibatches, and thus gradient steps, per pass; every pass shuffles the transitions."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam."""
    anneal: bool = True
    """Decay the learning rate linearly to zero; otherwise it is constant."""
    adam_epsilon: float = 1e-5
    """Epsilon of Adam; PyTorch's default is 1e-8."""
    discount: float = 0.98
    """Discount factor gamma."""
    gae_lambda: float = 0.8
    """Lambda of generalised advantage estimation; 0 uses one-step TD errors, 1 Monte Carlo returns."""
    normalise_advantages: bool = True
    """Scale the advantages of each minibatch to mean 0 and standard deviation 1."""
    clip: float = 0.2
    """Clip range c of the probability ratio, and of the change of a value."""
    anneal_clip: bool = False
    """Decay the clip range linearly to zero, too."""
    clip_objective: bool = True
    """Clip the probability ratio in the objective."""
    clip_values: bool = True
    """Clip the change of a value in the critic loss, too."""
    critic_weight: float = 0.5
    """Weight of the critic loss."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus, which encourages exploration."""
    gradient_norm: float = 0.5
    """Maximum gradient norm; larger gradients are rescaled. 0 does not limit it."""
    target_kl: float = 0.0
    """Skip the remaining passes over a rollout once the approximate KL divergence exceeds this; 0 never does."""
    orthogonal: bool = True
    """Orthogonal initial weights, small ones in the policy's output layer; otherwise PyTorch's default."""
    shared: bool = False
    """Share the hidden layers of policy and value function; otherwise they are separate networks."""
    hidden_size: int = 64
    """Number H of hidden units of each of the two hidden layers."""
    keep: Keep = "best"
    """Weights to save and to test: of the epoch with the highest validation return (the latest of equal ones), or the
    last ones."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "time_limit", "environments", "environment_steps", "rollout", "epochs", "passes")
        require_positive(self, "minibatches", "learning_rate", "adam_epsilon", "clip", "hidden_size")
        batch = self.rollout * self.environments
        require(
            2 * self.minibatches <= batch,
            f"--minibatches must be at most half of {batch} transitions",
            self.minibatches,
        )
        require(0 < self.discount <= 1, "--discount must be above 0 and at most 1", self.discount)
        require(0 <= self.gae_lambda <= 1, "--gae-lambda must be between 0 and 1", self.gae_lambda)
        for name in ("critic_weight", "entropy_weight", "gradient_norm", "target_kl"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"--{name.replace('_', '-')} must not be negative", value)
        require(self.run.precision != "bf16", "--precision must be fp32: the networks are small", "bf16")

    @property
    def rollouts(self) -> int:
        """Number of rollouts per epoch."""
        return max(1, round(self.environment_steps / (self.epochs * self.rollout * self.environments)))


class ActorCritic(nn.Module):
    """Policy and value function: two networks with two hidden layers of tanh units, or one with two outputs."""

    def __init__(self, task: Task, config: Config) -> None:
        super().__init__()
        self.actor = hidden_layers(task.observation_size, config.hidden_size)
        self.critic = self.actor if config.shared else hidden_layers(task.observation_size, config.hidden_size)
        self.policy = nn.Linear(config.hidden_size, task.actions)
        self.value = nn.Linear(config.hidden_size, 1)
        if config.orthogonal:
            for body in (self.actor, self.critic):
                for layer in body:
                    if isinstance(layer, nn.Linear):
                        initialise(layer, math.sqrt(2))
            initialise(self.policy, 0.01)  # at first all actions have almost the same probability
            initialise(self.value, 1.0)

    def values(self, observations: Tensor) -> Tensor:
        """(..., D) observations -> (...) state values"""
        return self.value(self.critic(observations)).squeeze(-1)

    def forward(self, observations: Tensor) -> Tensor:
        """(B, D) observations -> (B, A) logits of the policy"""
        return self.policy(self.actor(observations))


def hidden_layers(observation_size: int, hidden_size: int) -> nn.Sequential:
    """Create the hidden layers: D -> H -> H."""
    return nn.Sequential(
        nn.Linear(observation_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size), nn.Tanh()
    )


@torch.no_grad()
def initialise(layer: nn.Linear, gain: float) -> None:
    """Set zero biases and orthogonal weights: random orthonormal columns (rows, if these are fewer) times the gain."""
    outputs, inputs = layer.weight.shape
    q, r = torch.linalg.qr(torch.randn(max(outputs, inputs), min(outputs, inputs)))
    q = q * r.diagonal().sign()  # without the signs, not all orthogonal matrices would be equally likely
    layer.weight.copy_(gain * (q if outputs >= inputs else q.T))
    layer.bias.zero_()


class Rollout(NamedTuple):
    """T steps of all environments, each field (T, M) or (T, M, D)."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor
    truncated: Tensor


@torch.no_grad()
def roll_out(model: ActorCritic, environment: VectorEnvironment, steps: int) -> Rollout:
    """Collect a rollout: `steps` steps of every environment, with actions sampled from the policy."""
    transitions = []
    for _ in range(steps):
        observation = environment.observation
        log_probs = model(observation).log_softmax(1)
        # Gumbel-max trick: argmax of log-probabilities + Gumbel noise is a sample, faster than torch.multinomial.
        action = (log_probs - torch.empty_like(log_probs).exponential_().log()).argmax(1)
        log_prob = log_probs.gather(1, action.unsqueeze(1)).squeeze(1)
        step = environment.step(action)
        transitions.append((observation, action, log_prob, step.reward, step.next_observation, *step[2:]))
    return Rollout(*(torch.stack(values) for values in zip(*transitions, strict=True)))


class Batch(NamedTuple):
    """B transitions with what the old policy and the old values say about them, each field (B,) or (B, D)."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    value_target: Tensor


@torch.no_grad()
def batch_of(model: ActorCritic, rollout: Rollout, *, discount: float, gae_lambda: float) -> Batch:
    """Estimate advantages and value targets of a rollout and join its environments."""
    value, next_value = model.values(rollout.observation), model.values(rollout.next_observation)
    advantage = generalised_advantages(
        rollout.reward,
        value,
        next_value,
        rollout.terminated,
        rollout.truncated,
        discount=discount,
        gae_lambda=gae_lambda,
    )
    fields = rollout.observation, rollout.action, rollout.log_prob, value, advantage, value + advantage
    return Batch(*(values.flatten(0, 1) for values in fields))


def clipped_objective(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """(B,) ratios p, (B,) advantages A -> (B,) objectives min(p A, clip(p, 1 - c, 1 + c) A)"""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def clipped_value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip: float) -> Tensor:
    """(B,) values, old values, targets -> (B,) the larger of the squared errors with and without a clipped change"""
    clipped = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum((value - target).square(), (clipped - target).square())


class Losses(NamedTuple):
    """Losses and diagnostics of a gradient step, scalars on the device."""

    loss: Tensor
    policy_loss: Tensor
    critic_loss: Tensor
    entropy: Tensor
    approximate_kl: Tensor
    """Estimate of the KL divergence of the policy from the old one: the mean of p - 1 - log p."""
    clip_fraction: Tensor
    """Fraction of the ratios outside the clip range."""


def losses(model: ActorCritic, batch: Batch, config: Config, clip: float) -> Losses:
    """Compute the loss of a minibatch, with its parts."""
    log_probs, value = model(batch.observation).log_softmax(1), model.values(batch.observation)
    log_ratio = log_probs.gather(1, batch.action.unsqueeze(1)).squeeze(1) - batch.log_prob
    ratio = log_ratio.exp()

    advantage = batch.advantage
    if config.normalise_advantages:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    objective = clipped_objective(ratio, advantage, clip) if config.clip_objective else ratio * advantage
    policy_loss = -objective.mean()

    if config.clip_values:
        critic_loss = clipped_value_loss(value, batch.value, batch.value_target, clip).mean()
    else:
        critic_loss = (value - batch.value_target).square().mean()

    entropy = -(log_probs.exp() * log_probs).sum(1).mean()
    loss = policy_loss + config.critic_weight * critic_loss - config.entropy_weight * entropy
    with torch.no_grad():
        approximate_kl = (ratio - 1 - log_ratio).mean()
        clip_fraction = ((ratio - 1).abs() > clip).float().mean()
    return Losses(loss, policy_loss, critic_loss, entropy, approximate_kl, clip_fraction)


def train_step(
    model: ActorCritic, optimizer: torch.optim.Optimizer, batch: Batch, config: Config, clip: float
) -> Tensor:
    """Take one gradient step on a minibatch; return the (6,) losses and diagnostics, on the device."""
    parts = losses(model, batch, config, clip)
    parts.loss.backward()
    if config.gradient_norm:
        nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
    optimizer.step()
    optimizer.zero_grad()
    return torch.stack(parts).detach()


def update(model: ActorCritic, optimizer: torch.optim.Optimizer, batch: Batch, config: Config, clip: float) -> Tensor:
    """Take the gradient steps on one rollout; return their mean (6,) losses and diagnostics."""
    parts = []
    for _ in range(config.passes):
        order = torch.randperm(len(batch.action), device=batch.action.device)
        for chosen in order.chunk(config.minibatches):
            minibatch = Batch(*(values[chosen] for values in batch))
            parts.append(train_step(model, optimizer, minibatch, config, clip))
        if config.target_kl and float(parts[-1][4]) > config.target_kl:
            break
    return torch.stack(parts).mean(0)


def make_optimizer(model: ActorCritic, config: Config) -> torch.optim.Optimizer:
    """Create a fused Adam optimizer."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, eps=config.adam_epsilon, fused=True)


def train(config: Config) -> dict[str, float]:
    """Train the policy; return the mean return of its most probable actions over 100 test episodes."""
    task = task_of(config.environment, config.time_limit)
    total_rollouts = config.epochs * config.rollouts
    steps_per_rollout = config.rollout * config.environments
    with Run.open(__name__, config, task.card(f"; {total_rollouts * steps_per_rollout:,} steps for training")) as run:
        environment = VectorEnvironment(
            config.environment,
            config.environments,
            seed=config.run.seed,
            time_limit=config.time_limit,
            device=run.device,
        )
        model = ActorCritic(task, config).to(run.device)
        optimizer = make_optimizer(model, config)
        best = BestWeights(model, latest=True)
        checkpointed = {"model": model, "optimizer": optimizer, "environment": environment, "best": best}

        for epoch in run.epochs(config.epochs, config.rollouts, **checkpointed):
            parts = []
            for number in range((epoch - 1) * config.rollouts, epoch * config.rollouts):
                remaining = linear_at(number / total_rollouts, 1.0)
                set_learning_rate(optimizer, config.learning_rate * (remaining if config.anneal else 1.0))
                clip = config.clip * (remaining if config.anneal_clip else 1.0)

                rollout = roll_out(model, environment, config.rollout)
                batch = batch_of(model, rollout, discount=config.discount, gae_lambda=config.gae_lambda)
                parts.append(update(model, optimizer, batch, config, clip))
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
        "KL divergence and clip fraction": ["approximate_kl", "clip_fraction"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[ActorCritic, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = ActorCritic(task_of(config.environment, config.time_limit), config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step for the device benchmark: one rollout and its gradient steps."""
    environment = VectorEnvironment(
        config.environment, config.environments, time_limit=config.time_limit, device=device
    )
    model = ActorCritic(environment.task, config).to(device)
    optimizer = make_optimizer(model, config)

    def step() -> Tensor:
        rollout = roll_out(model, environment, config.rollout)
        batch = batch_of(model, rollout, discount=config.discount, gae_lambda=config.gae_lambda)
        return update(model, optimizer, batch, config, config.clip)

    return Workload(step, items=config.rollout * config.environments, unit="steps")
