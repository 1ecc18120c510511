"""REINFORCE: the policy gradient with whole episodes, with or without a learned baseline.

    python -m ch07_dqn.train reinforce
    python -m ch07_dqn.train reinforce --baseline             # subtract a learned value from the returns

The gradient of the expected return J of a policy is an expectation over its own episodes (Williams 1992):

    grad J = E[ sum over t of G[t] grad log pi(a[t] | s[t]) ],    G[t] = r[t] + g r[t+1] + g^2 r[t+2] + ...

An update estimates it from one episode in each of M environments. A baseline b(s[t]), subtracted from G[t], does not
change the expectation: grad log pi has the mean 0 in every state. It can reduce the variance.

The sum is exact for g = 1. With g < 1 the factor g^t of the exact gradient is left out, as is usual: otherwise late
steps hardly count.

Dimensions: T steps, M environments, D numbers per observation, A actions, H hidden units.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ch07_dqn.agents.evaluation import Keep, final_test, greedy, validate
from ch07_dqn.agents.vector_environment import Task, VectorEnvironment, task_of
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, read_config, require, require_positive
from common.run import Run, load_weights
from common.schedule import linear_at


@dataclass(frozen=True)
class Config:
    """Hyperparameters of REINFORCE."""

    environment: str = "CartPole-v1"
    """Name of a gymnasium environment with discrete actions, for example Acrobot-v1, MountainCar-v0 or Maze-v0."""
    time_limit: int | None = None
    """Steps after which an episode is truncated. Default: that of the environment."""
    environments: int = 16
    """Number M of parallel environments, and of episodes per gradient step."""
    epochs: int = 20
    """Number of epochs; the greedy policy is evaluated after each."""
    steps: int = 5
    """Number of gradient steps per epoch."""
    learning_rate: float = 1e-2
    """Initial learning rate of Adam; decays linearly to zero."""
    discount: float = 0.99
    """Discount factor gamma."""
    baseline: bool = False
    """Subtract a learned state value from the returns. At a time limit the value of the last state is added."""
    baseline_learning_rate: float = 1e-2
    """Initial learning rate of the baseline; decays linearly to zero."""
    hidden_size: int = 64
    """Number H of hidden units of the policy, and of the baseline."""
    keep: Keep = "best"
    """Weights to save and to test: of the epoch with the highest validation return (the latest of equal ones), or the
    last ones."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "time_limit", "environments", "epochs", "steps", "hidden_size")
        require_positive(self, "learning_rate", "baseline_learning_rate")
        require(0 < self.discount <= 1, "--discount must be above 0 and at most 1", self.discount)
        require(self.run.precision != "bf16", "--precision must be fp32: the networks are small", "bf16")


class PolicyNetwork(nn.Module):
    """Policy D -> H -> A and, as a separate network, the baseline D -> H -> 1."""

    def __init__(self, task: Task, config: Config) -> None:
        super().__init__()
        size, hidden = task.observation_size, config.hidden_size
        self.policy = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, task.actions))
        self.baseline = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, observations: Tensor) -> Tensor:
        """(..., D) observations -> (..., A) logits of the policy"""
        return self.policy(observations)

    def values(self, observations: Tensor) -> Tensor:
        """(..., D) observations -> (...) values of the baseline"""
        return self.baseline(observations).squeeze(-1)


class Episodes(NamedTuple):
    """One episode of each environment, padded to the longest: each field (T, M) or (T, M, D)."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    truncated: Tensor
    valid: Tensor
    """Whether the step belongs to the episode; the steps after its end are padding."""


@torch.no_grad()
def play_episodes(model: PolicyNetwork, environment: VectorEnvironment) -> Episodes:
    """Play one whole episode in every environment, with actions sampled from the policy."""
    environment.restart()
    running = torch.ones(len(environment.observation), dtype=torch.bool, device=environment.device)
    transitions = []
    while running.any():
        observation = environment.observation
        logits = model(observation)
        # Gumbel-max trick: argmax of logits + Gumbel noise is a sample of their softmax, faster than torch.multinomial.
        action = (logits - torch.empty_like(logits).exponential_().log()).argmax(1)
        step = environment.step(action, running)
        transitions.append((observation, action, step.reward, step.next_observation, step.truncated, running))
        running = running & ~(step.terminated | step.truncated)
    return Episodes(*(torch.stack(values) for values in zip(*transitions, strict=True)))


def returns_to_go(reward: Tensor, following: Tensor, valid: Tensor, discount: float) -> Tensor:
    """(T, M) rewards, estimates of the return after each step (only used if it is the last one) -> (T, M) returns G

    G[t] = r[t] + g G[t+1], with `following` instead of G[t+1] in the last step of an episode; 0 in the padding.
    """
    result, after = torch.zeros_like(reward), following[-1]
    for t in reversed(range(len(reward))):
        last = valid[t] & (~valid[t + 1] if t + 1 < len(reward) else True)
        after = reward[t] + discount * torch.where(last, following[t], after)
        result[t] = after * valid[t]
    return result


def policy_loss(log_prob: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
    """Return minus the sum of (T, M) weighted log-probabilities per episode; its gradient estimates -grad J."""
    return -(log_prob * weight * valid).sum() / valid.shape[1]


def train_step(
    model: PolicyNetwork, optimizer: torch.optim.Optimizer, episodes: Episodes, config: Config
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one gradient step on whole episodes; return policy loss, baseline loss and entropy, on the device."""
    log_probs = model(episodes.observation).log_softmax(-1)
    log_prob = log_probs.gather(-1, episodes.action.unsqueeze(-1)).squeeze(-1)
    steps = episodes.valid.sum()
    if config.baseline:
        value = model.values(episodes.observation)
        with torch.no_grad():
            following = model.values(episodes.next_observation) * episodes.truncated
            returns = returns_to_go(episodes.reward, following, episodes.valid, config.discount)
        weight = returns - value.detach()
        baseline_loss = ((returns - value).square() * episodes.valid).sum() / steps
    else:
        weight = returns_to_go(episodes.reward, torch.zeros_like(episodes.reward), episodes.valid, config.discount)
        baseline_loss = weight.new_zeros(())
    loss = policy_loss(log_prob, weight, episodes.valid)
    (loss + baseline_loss).backward()
    optimizer.step()
    optimizer.zero_grad()
    entropy = -((log_probs.exp() * log_probs).sum(-1) * episodes.valid).sum() / steps
    return loss.detach(), baseline_loss.detach(), entropy.detach()


def make_optimizer(model: PolicyNetwork, config: Config) -> torch.optim.Optimizer:
    """Create Adam with a learning rate for the policy and one for the baseline."""
    groups = [
        {"params": list(model.policy.parameters()), "lr": config.learning_rate, "peak": config.learning_rate},
        {
            "params": list(model.baseline.parameters()),
            "lr": config.baseline_learning_rate,
            "peak": config.baseline_learning_rate,
        },
    ]
    return torch.optim.Adam(groups, fused=True)


def train(config: Config) -> dict[str, float]:
    """Train the policy; return the mean return of its most probable actions over 100 test episodes."""
    task = task_of(config.environment, config.time_limit)
    episodes_in_all = config.epochs * config.steps * config.environments
    with Run.open(__name__, config, task.card(f"; {episodes_in_all:,} episodes for training")) as run:
        environment = VectorEnvironment(
            config.environment,
            config.environments,
            seed=config.run.seed,
            time_limit=config.time_limit,
            device=run.device,
        )
        model = PolicyNetwork(task, config).to(run.device)
        optimizer = make_optimizer(model, config)
        best = BestWeights(model, latest=True)
        checkpointed = {"model": model, "optimizer": optimizer, "environment": environment, "best": best}

        for epoch in run.epochs(config.epochs, config.steps, **checkpointed):
            parts = []
            for step in range((epoch - 1) * config.steps, epoch * config.steps):
                for group in optimizer.param_groups:
                    group["lr"] = linear_at(step / (config.epochs * config.steps), group["peak"])
                episodes = play_episodes(model, environment)
                parts.append(torch.stack(train_step(model, optimizer, episodes, config)))
                run.step(parts[-1][0], steps=int(episodes.valid.sum()))

            loss, baseline_loss, entropy = torch.stack(parts).mean(0).tolist()
            valid = validate(model, config)
            best.update(-valid["return"], epoch)
            run.log(
                run={
                    **environment.statistics(),
                    "policy_loss": loss,
                    "baseline_loss": baseline_loss,
                    "entropy": entropy,
                },
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
        "loss of the baseline": ["baseline_loss"],
        "entropy of the policy": ["entropy"],
    }
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[PolicyNetwork, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = PolicyNetwork(task_of(config.environment, config.time_limit), config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step for the device benchmark: a gradient step on random episodes of 100 steps."""
    task = task_of(config.environment, config.time_limit)
    model = PolicyNetwork(task, config).to(device)
    optimizer = make_optimizer(model, config)
    shape = (100, config.environments)
    observation = torch.randn(*shape, task.observation_size, device=device)
    episodes = Episodes(
        observation,
        torch.randint(task.actions, shape, device=device),
        torch.ones(shape, device=device),
        observation,
        torch.zeros(shape, dtype=torch.bool, device=device),
        torch.ones(shape, dtype=torch.bool, device=device),
    )
    return Workload(
        lambda: train_step(model, optimizer, episodes, config), items=100 * config.environments, unit="steps"
    )
