"""Define the exported graphs of chapter 7's agents for CartPole: from observations to probabilities or action values.

Dimensions: B batch, D = 4 numbers per observation, A = 2 actions.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ch07_dqn.agents import dqn, ppo
from ch10_deploy.exporting.graphs import EXAMPLES, Graph, with_probabilities

OBSERVATION = {"position": 2.4, "velocity": 3.0, "angle": 0.21, "angular velocity": 3.0}
"""Numbers of an observation, and the largest absolute value of each on which a graph is compared with its original."""

ACTIONS = ("left", "right")
"""Directions in which the cart is pushed."""


def agent_graph(module: nn.Module, outputs: tuple[str, ...], original: nn.Module) -> Graph:
    """Build the graph of an agent; the examples are random states from the whole track."""
    uniform = 2 * torch.rand(EXAMPLES, len(OBSERVATION), generator=torch.Generator().manual_seed(0)) - 1

    def expected(observations: Tensor) -> tuple[Tensor, ...]:
        scores = original(observations)
        return (scores, scores.log_softmax(1).exp())[: len(outputs)]

    return Graph(
        module=module,
        inputs={"observations": uniform * torch.tensor([*OBSERVATION.values()])},
        outputs=outputs,
        original=expected,
        dynamic={"observations": {0: "batch"}},
        serving={"observation": [*OBSERVATION], "actions": list(ACTIONS)},
    )


class Policy(nn.Module):
    """The policy of chapter 7's PPO, without the value function."""

    def __init__(self, model: ppo.ActorCritic) -> None:
        super().__init__()
        self.layers = nn.Sequential(model.actor, model.policy)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) observations -> (B, A) logits and probabilities"""
        return with_probabilities(self.layers(observations))


def policy(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 7's PPO policy, from a run."""
    model, _ = ppo.restore(folder)
    return agent_graph(Policy(model), ("logits", "probabilities"), model)


class ActionValues(nn.Module):
    """Chapter 7's deep Q-network."""

    def __init__(self, model: dqn.QNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, observations: Tensor) -> tuple[Tensor]:
        """(B, D) observations -> (B, A) action values"""
        return (self.model(observations),)


def action_values(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 7's deep Q-network, from a run."""
    model, _ = dqn.restore(folder)
    return agent_graph(ActionValues(model), ("values",), model)
