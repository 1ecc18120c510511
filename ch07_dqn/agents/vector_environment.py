"""Parallel gymnasium environments with the true next observation of every step.

    environment = VectorEnvironment("CartPole-v1", 8, seed=0)
    step = environment.step(actions)          # transitions from the old to `step.next_observation`
    environment.observation                   # where the next actions are chosen: after an end, in a new episode

gymnasium's vector environments start new episodes by themselves, in one of two ways. With autoreset mode NEXT_STEP,
the step after the end ignores the action and returns the first observation of the new episode; this is not a transition
and must not be learned from. With SAME_STEP, the step that ends an episode already returns the first observation of the
new one; the last observation of the old one is in `info["final_obs"]`. A target that takes V(s') from the wrong
observation is wrong at every time limit. Here autoreset is DISABLED: a step returns the observation that it led to, and
then the ended environments are reset.

Each episode has its own seed, a function of the run's seed, the number of the environment and the number of its
episode. Seed and actions determine the state of any environment, so a checkpoint contains only these.

Dimensions: M environments, D numbers per observation.
"""

import hashlib
import importlib
import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from torch import Tensor
from torch.nn import functional as F

from common.config import require
from common.data.source import DataCard

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
"""Episodes have different seeds in training, for the choice of settings (valid), and for the results (test)."""

LATEST_EPISODES = 100
"""Number of finished episodes over which training returns are averaged."""


@dataclass(frozen=True)
class Task:
    """What a network must know about an environment."""

    name: str
    observation_size: int
    """Size D of an observation; a discrete observation is one-hot."""
    actions: int
    """Number of actions."""
    time_limit: int
    """Steps after which an episode is truncated."""
    spaces: str
    """Spaces of observations and actions, as text."""

    def card(self, more: str = "") -> DataCard:
        """Describe the environment of a run."""
        sizes = (
            f"{self.observation_size} numbers, {self.actions} actions, at most {self.time_limit:,} steps per episode"
        )
        digest = hashlib.sha256(f"{self.name} {self.spaces} {self.time_limit}".encode()).hexdigest()
        return DataCard(self.name, True, digest, sizes + more)


def make_single(name: str, time_limit: int | None = None, **options: Any) -> gymnasium.Env[Any, Any]:
    """Create one gymnasium environment; `Maze-v0` is this project's (common/data/mazes/environment.py).

    Raises ValueError, naming --environment, if there is no such environment or a package for it is missing.
    """
    if name == "Maze-v0":
        importlib.import_module("common.data.mazes.environment")  # registers it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an old version of an environment, for example
            return gymnasium.make(name, max_episode_steps=time_limit, disable_env_checker=True, **options)
    except (gymnasium.error.Error, ImportError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--environment {name}: {reason}") from error


def task_of(name: str, time_limit: int | None = None) -> Task:
    """Describe an environment.

    Raises ValueError, naming the flag, if it does not exist or has no time limit, if its actions are not discrete, or
    if its observations are neither discrete nor vectors.
    """
    environment = make_single(name, time_limit)
    actions, observations, specification = environment.action_space, environment.observation_space, environment.spec
    environment.close()
    if not isinstance(actions, Discrete):
        raise ValueError(
            f"--environment {name} has the actions {actions}: these agents need a Discrete space of actions"
        )
    if isinstance(observations, Discrete):
        size = int(observations.n)
    elif isinstance(observations, Box) and len(observations.shape) == 1:
        size = observations.shape[0]
    else:
        kind = "images or arrays" if isinstance(observations, Box) else "a structure"
        raise ValueError(
            f"--environment {name} observes {kind} ({observations}): these agents need vectors or a number"
        )
    assert specification is not None
    limit = specification.max_episode_steps
    if limit is None:
        raise ValueError(f"--environment {name} has no time limit: set --time-limit")
    return Task(name, size, int(actions.n), limit, f"{observations} {actions}")


class Step(NamedTuple):
    """One step of all environments."""

    next_observation: Tensor
    """(M, D) observations after the step; at the end of an episode, its last observation."""
    reward: Tensor
    """(M,) rewards."""
    terminated: Tensor
    """(M,) whether the next state is terminal: no rewards follow."""
    truncated: Tensor
    """(M,) whether a time limit interrupted the episode: rewards could follow, so a target contains V(s')."""


class VectorEnvironment:
    """M parallel environments."""

    def __init__(
        self,
        name: str,
        count: int,
        *,
        seed: int = 0,
        split: Split = "train",
        time_limit: int | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        """Create the environments; `options` are passed to gymnasium, for example `render_mode`."""
        self.task = task_of(name, time_limit)
        self.device = torch.device(device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vector = gymnasium.make_vec(
                name,
                count,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED, "copy": False},
                max_episode_steps=time_limit,
                disable_env_checker=True,
                **options,
            )
        assert isinstance(vector, gymnasium.vector.SyncVectorEnv)
        self.vector = vector
        space = self.vector.single_observation_space
        self._start = int(space.start) if isinstance(space, Discrete) else None
        self.first_action = int(self.vector.single_action_space.start)  # pyright: ignore[reportAttributeAccessIssue]
        self._seed = seed * len(SPLITS) + SPLITS.index(split)
        self._episode = [0] * count
        self._actions: list[list[int]] = [[] for _ in range(count)]
        self._return = np.zeros(count)
        self.environment_steps = 0
        self.latest_returns: deque[float] = deque(maxlen=LATEST_EPISODES)
        self.latest_steps: deque[int] = deque(maxlen=LATEST_EPISODES)
        self.observation = self.tensor(self.vector.reset(seed=self._seeds())[0])
        """(M, D) observations in which the next actions are chosen."""

    def _seeds(self) -> list[int | None]:
        """Return the seeds of the current episodes of all environments."""
        return [(self._seed << 64) + (number << 32) + episode for number, episode in enumerate(self._episode)]

    def tensor(self, observations: Any) -> Tensor:
        """Convert observations to (M, D) float32."""
        if self._start is None:
            return torch.tensor(observations, dtype=torch.float32, device=self.device)
        states = torch.tensor(observations, device=self.device) - self._start
        return F.one_hot(states, self.task.observation_size).float()

    def step(self, action: Tensor, counted: Tensor | None = None) -> Step:
        """Take one step in every environment, with (M,) actions; then reset those whose episode ended.

        Episodes that end where the (M,) flags `counted` are false do not enter the statistics.
        """
        actions = action.cpu().numpy() + self.first_action
        observation, reward, terminated, truncated, _ = self.vector.step(actions)
        self._return += reward
        for taken, number in zip(self._actions, actions.tolist(), strict=True):
            taken.append(number)
        next_observation = self.tensor(observation)
        step = Step(
            next_observation,
            torch.tensor(reward, dtype=torch.float32, device=self.device),
            torch.tensor(terminated, device=self.device),
            torch.tensor(truncated & ~terminated, device=self.device),
        )
        self.environment_steps += len(actions) if counted is None else int(counted.sum())
        ended = terminated | truncated
        if ended.any():
            self._count(ended if counted is None else ended & counted.cpu().numpy())
            self.observation = self._reset(ended)
        else:
            self.observation = next_observation
        return step

    def _count(self, ended: Any) -> None:
        """Add the episodes of some environments to the statistics."""
        for number in ended.nonzero()[0].tolist():
            self.latest_returns.append(float(self._return[number]))
            self.latest_steps.append(len(self._actions[number]))

    def _reset(self, ended: Any) -> Tensor:
        """Start new episodes in some environments; return the observations of all."""
        for number in ended.nonzero()[0].tolist():
            self._episode[number] += 1
            self._actions[number] = []
        self._return[ended] = 0
        return self.tensor(self.vector.reset(seed=self._seeds(), options={"reset_mask": ended})[0])

    def restart(self) -> None:
        """Start a new episode in every environment, as if all had ended; the interrupted ones are not counted."""
        self._episode = [episode + 1 for episode in self._episode]
        self._actions = [[] for _ in self._episode]
        self._return[:] = 0
        self.observation = self.tensor(self.vector.reset(seed=self._seeds())[0])

    def statistics(self) -> dict[str, float]:
        """Return the mean return and length of the latest 100 finished episodes, and the environment steps so far.

        Before the end of the first episode, return and length are 0.
        """
        episodes = max(1, len(self.latest_returns))
        return {
            "episode_return": sum(self.latest_returns) / episodes,
            "episode_steps": sum(self.latest_steps) / episodes,
            "environment_steps": self.environment_steps,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the episode and the actions since its start, for each environment."""
        return {
            "episode": self._episode,
            "actions": self._actions,
            "latest_returns": list(self.latest_returns),
            "latest_steps": list(self.latest_steps),
            "environment_steps": self.environment_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the environments: start their episodes again with the same seeds, and repeat the actions."""
        require(len(state["episode"]) == len(self._episode), "wrong number of environments", len(state["episode"]))
        self._episode, self._actions = list(state["episode"]), [list(taken) for taken in state["actions"]]
        self.latest_returns.extend(state["latest_returns"])
        self.latest_steps.extend(state["latest_steps"])
        self.environment_steps = state["environment_steps"]
        observations: list[Any] = []
        for number, (environment, seed) in enumerate(zip(self.vector.envs, self._seeds(), strict=True)):
            observation, _ = environment.reset(seed=seed)
            self._return[number] = 0.0
            for action in self._actions[number]:
                observation, reward, *_ = environment.step(action)
                self._return[number] += float(reward)
            observations.append(observation)
        self.observation = self.tensor(np.array(observations))
