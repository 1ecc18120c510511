"""Deep Q-network (DQN) for any environment with discrete actions.

    python -m ch07_dqn.train dqn
    python -m ch07_dqn.train dqn --environment MountainCar-v0
    python -m ch07_dqn.train dqn --no-double --target-every 0     # the online network evaluates its own actions

Mnih et al. 2015: epsilon-greedy actions, a replay buffer, and a target network that lags behind. `mazes/maze_dqn.py`
adds prioritised replay, the dueling network and n-step returns.

Dimensions: M environments, B batch, D numbers per observation, A actions, H hidden units.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch07_dqn.agents.evaluation import Keep, final_test, greedy, validate
from ch07_dqn.agents.vector_environment import Task, VectorEnvironment, task_of
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, read_config, require, require_positive
from common.run import Run, load_weights
from common.schedule import linear_at, set_learning_rate


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the deep Q-network."""

    environment: str = "CartPole-v1"
    """Name of a gymnasium environment with discrete actions, for example Acrobot-v1, MountainCar-v0 or Maze-v0."""
    time_limit: int | None = None
    """Steps after which an episode is truncated. Default: that of the environment."""
    environments: int = 8
    """Number M of parallel environments."""
    environment_steps: int = 100_000
    """Number of environment steps of the training, with the warm-up."""
    warm_up: int = 1_000
    """Number of environment steps with random actions before the first gradient step."""
    epochs: int = 20
    """Number of epochs; the greedy policy is evaluated after each."""
    buffer_size: int = 100_000
    """Capacity of the replay buffer, in transitions. With the number of environments, there is no replay: a batch holds
    the newest transition of each."""
    batch_size: int = 128
    """Batch size: transitions per gradient step."""
    gradient_steps: int = 2
    """Number of gradient steps after each step of all environments."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam; decays linearly to zero."""
    discount: float = 0.99
    """Discount factor gamma."""
    double: bool = True
    """Double Q-learning: the online network selects the next action, the target network evaluates it."""
    target_every: int = 100
    """Number of gradient steps between two updates of the target network; 0 trains without a target network."""
    epsilon: float = 0.04
    """Final fraction of random actions (epsilon-greedy)."""
    exploration: float = 0.16
    """Fraction of the training in which epsilon decays linearly from 1; 0 uses the final one from the start."""
    gradient_norm: float = 10.0
    """Maximum gradient norm; larger gradients are rescaled. 0 does not limit it."""
    hidden_size: int = 128
    """Number H of hidden units of each of the two hidden layers."""
    keep: Keep = "best"
    """Weights to save and to test: of the epoch with the highest validation return (the latest of equal ones), or the
    last ones."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "time_limit", "environments", "environment_steps", "warm_up", "epochs", "buffer_size")
        require_positive(self, "batch_size", "gradient_steps", "learning_rate", "hidden_size")
        require(
            self.buffer_size >= self.environments, "--buffer-size must be at least --environments", self.buffer_size
        )
        require(0 < self.discount <= 1, "--discount must be above 0 and at most 1", self.discount)
        require(0 <= self.epsilon <= 1, "--epsilon must be between 0 and 1", self.epsilon)
        require(0 <= self.exploration <= 1, "--exploration must be between 0 and 1", self.exploration)
        require(self.target_every >= 0, "--target-every must not be negative", self.target_every)
        require(0 <= self.gradient_norm < float("inf"), "--gradient-norm must not be negative", self.gradient_norm)
        require(self.run.precision != "bf16", "--precision must be fp32: the networks are small", "bf16")

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of every environment per epoch, without the warm-up."""
        return max(1, round((self.environment_steps - self.warm_up) / (self.epochs * self.environments)))


class QNetwork(nn.Module):
    """Q-values of all actions: D -> H -> H -> A, with ReLU."""

    def __init__(self, task: Task, config: Config) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.layers = nn.Sequential(
            nn.Linear(task.observation_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, task.actions),
        )  # fmt: skip

    def forward(self, observations: Tensor) -> Tensor:
        """(B, D) observations -> (B, A) Q-values"""
        return self.layers(observations)


class Batch(NamedTuple):
    """B transitions."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor


class ReplayBuffer:
    """The newest transitions in one tensor per field; the oldest ones are overwritten."""

    def __init__(self, capacity: int, observation_size: int, device: torch.device) -> None:
        self.fields = Batch(
            torch.zeros(capacity, observation_size, device=device),
            torch.zeros(capacity, dtype=torch.long, device=device),
            torch.zeros(capacity, device=device),
            torch.zeros(capacity, observation_size, device=device),
            torch.zeros(capacity, dtype=torch.bool, device=device),
        )
        self.capacity, self.added = capacity, 0

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, *transitions: Tensor) -> None:
        """Add M transitions, given as the fields of a Batch."""
        count, at = len(transitions[0]), self.added % self.capacity
        before_the_end = min(count, self.capacity - at)
        for stored, new in zip(self.fields, transitions, strict=True):
            stored[at : at + before_the_end] = new[:before_the_end]
            stored[: count - before_the_end] = new[before_the_end:]
        self.added += count

    def sample(self, batch_size: int) -> Batch:
        """Sample transitions uniformly, with replacement."""
        chosen = torch.randint(len(self), (batch_size,), device=self.fields.reward.device)
        return Batch(*(stored[chosen] for stored in self.fields))

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return the transitions and their number."""
        used = {name: stored[: len(self)].clone() for name, stored in zip(Batch._fields, self.fields, strict=True)}
        return {**used, "added": self.added}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore the transitions."""
        self.added = int(state["added"])
        for name, stored in zip(Batch._fields, self.fields, strict=True):
            stored[: len(self)] = state[name]


def epsilon_at(progress: float, config: Config) -> float:
    """Return epsilon at a fraction of the training: linear from 1 to its final value, then constant."""
    if progress >= config.exploration:
        return config.epsilon
    return 1 + progress / config.exploration * (config.epsilon - 1)


@torch.no_grad()
def act(model: nn.Module, observations: Tensor, epsilon: float, actions: int) -> Tensor:
    """(M, D) observations -> (M,) actions, epsilon-greedy"""
    random_actions = torch.randint(actions, (len(observations),), device=observations.device)
    if epsilon >= 1:
        return random_actions
    explore = torch.rand(len(observations), device=observations.device) < epsilon
    return torch.where(explore, random_actions, model(observations).argmax(1))


def environment_step(
    environment: VectorEnvironment, replay_buffer: ReplayBuffer, model: nn.Module, epsilon: float
) -> None:
    """Take one epsilon-greedy step in every environment; add the transitions to the replay buffer."""
    observation = environment.observation
    action = act(model, observation, epsilon, environment.task.actions)
    step = environment.step(action)
    replay_buffer.add(observation, action, step.reward, step.next_observation, step.terminated)


@torch.no_grad()
def targets(batch: Batch, model: nn.Module, target_network: nn.Module, *, discount: float, double: bool) -> Tensor:
    """Return the (B,) targets y = r + g Q'(s', a*), or r if s' is terminal; Q' is the target network.

    a* = argmax over a of Q'(s', a) (Mnih et al. 2015), or with double Q-learning of Q(s', a) (van Hasselt et al. 2016).
    At a time limit s' is not terminal, so the target contains Q'(s', a*).
    """
    next_values = target_network(batch.next_observation)
    next_action = (model(batch.next_observation) if double else next_values).argmax(1, keepdim=True)
    return batch.reward + discount * next_values.gather(1, next_action).squeeze(1) * ~batch.terminated


def train_step(
    model: nn.Module, target_network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, config: Config
) -> tuple[Tensor, Tensor]:
    """Take one gradient step on the Huber loss; return the loss and the mean Q-value, on the device."""
    y = targets(batch, model, target_network, discount=config.discount, double=config.double)
    q = model(batch.observation).gather(1, batch.action.unsqueeze(1)).squeeze(1)
    loss = F.smooth_l1_loss(q, y)
    loss.backward()
    if config.gradient_norm:
        nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), q.detach().mean()


def train(config: Config) -> dict[str, float]:
    """Train the network; return the mean return of its greedy actions over 100 test episodes."""
    task = task_of(config.environment, config.time_limit)
    total_steps = config.epochs * config.steps_per_epoch
    warm_up = -(-config.warm_up // config.environments)
    environment_steps = (warm_up + total_steps) * config.environments
    with Run.open(__name__, config, task.card(f"; {environment_steps:,} steps for training")) as run:
        environment = VectorEnvironment(
            config.environment,
            config.environments,
            seed=config.run.seed,
            time_limit=config.time_limit,
            device=run.device,
        )
        replay_buffer = ReplayBuffer(config.buffer_size, task.observation_size, run.device)
        model = QNetwork(task, config).to(run.device)
        target_network = deepcopy(model) if config.target_every else model
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        best = BestWeights(model, latest=True)
        checkpointed = {
            "model": model, "target_network": target_network, "optimizer": optimizer, "replay_buffer": replay_buffer,
            "environment": environment, "best": best,
        }  # fmt: skip

        for epoch in run.epochs(config.epochs, config.steps_per_epoch, **checkpointed):
            if epoch == 1:
                for _ in range(warm_up):
                    environment_step(environment, replay_buffer, model, epsilon=1.0)

            parts = []
            for step in range((epoch - 1) * config.steps_per_epoch, epoch * config.steps_per_epoch):
                set_learning_rate(optimizer, linear_at(step / total_steps, config.learning_rate))
                environment_step(environment, replay_buffer, model, epsilon_at(step / total_steps, config))
                for gradient_step in range(step * config.gradient_steps, (step + 1) * config.gradient_steps):
                    batch = replay_buffer.sample(config.batch_size)
                    parts.append(torch.stack(train_step(model, target_network, optimizer, batch, config)))
                    if config.target_every and gradient_step % config.target_every == 0:
                        target_network.load_state_dict(model.state_dict())
                run.step(parts[-1][0], steps=config.environments)

            _, q_value = torch.stack(parts).mean(0).tolist()
            valid = validate(model, config)
            best.update(-valid["return"], epoch)
            run.log(
                run={**environment.statistics(), "q_value": q_value, "epsilon": epsilon_at(step / total_steps, config)},
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

    panels = {"return": ["episode_return", "valid_return"], "loss": ["train_loss"], "mean Q-value": ["q_value"]}
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[QNetwork, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = QNetwork(task_of(config.environment, config.time_limit), config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step for the device benchmark: one step of every environment and its gradient steps."""
    environment = VectorEnvironment(
        config.environment, config.environments, time_limit=config.time_limit, device=device
    )
    replay_buffer = ReplayBuffer(config.buffer_size, environment.task.observation_size, device)
    model = QNetwork(environment.task, config).to(device)
    target_network = deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)

    def step() -> Tensor:
        environment_step(environment, replay_buffer, model, epsilon=0.5)
        return torch.stack(
            [
                train_step(model, target_network, optimizer, replay_buffer.sample(config.batch_size), config)[0]
                for _ in range(config.gradient_steps)
            ]
        )

    return Workload(step, items=config.environments, unit="steps")
