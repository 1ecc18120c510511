"""Return of a policy: the mean over whole episodes whose seeds do not occur in the training.

Dimensions: M episodes, D numbers per observation.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ch07_dqn.agents.vector_environment import Split, VectorEnvironment
from common.config import RunOptions

VALID_EPISODES, TEST_EPISODES = 20, 100
"""Number of episodes after each epoch, and at the end."""

Policy = Callable[[Tensor], Tensor]
"""(M, D) observations -> (M,) actions"""


class Settings(Protocol):
    """What the evaluation reads from a Config."""

    @property
    def environment(self) -> str:
        """Name of the environment."""
        ...

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is truncated."""
        ...

    @property
    def run(self) -> RunOptions:
        """Options of the run, with its seed."""
        ...


Keep = Literal["best", "last"]
"""Which weights of a training are kept."""


def greedy(model: nn.Module) -> Policy:
    """Return the policy that takes the action with the largest output of a network: logit or Q-value."""
    return lambda observations: model(observations).argmax(1)


@torch.inference_mode()
def episode_returns(
    policy: Policy, settings: Settings, split: Split, episodes: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Play one episode in each of M environments with a policy; return the (M,) undiscounted returns."""
    environment = VectorEnvironment(
        settings.environment,
        episodes,
        seed=settings.run.seed,
        split=split,
        time_limit=settings.time_limit,
        device=device,
    )
    returns = torch.zeros(episodes, device=device)
    running = torch.ones(episodes, dtype=torch.bool, device=device)
    while running.any():
        step = environment.step(policy(environment.observation))
        returns += step.reward * running
        running &= ~(step.terminated | step.truncated)
    return returns


def validate(model: nn.Module, settings: Settings) -> dict[str, float]:
    """Return the mean return of the greedy policy over 20 validation episodes."""
    device = next(model.parameters()).device
    return {"return": float(episode_returns(greedy(model), settings, "valid", VALID_EPISODES, device).mean())}


def final_test(policy: Policy, settings: Settings, device: torch.device | str) -> dict[str, float]:
    """Return mean, standard deviation and minimum of the returns over 100 test episodes."""
    returns = episode_returns(policy, settings, "test", TEST_EPISODES, device)
    return {
        "return": float(returns.mean()),
        "return_sd": float(returns.std(correction=0)),
        "return_min": float(returns.min()),
    }
