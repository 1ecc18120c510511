"""Balance a pole on a cart with chapter 7's agents: choose the action of a state.

Dimensions: B batch, D numbers per observation, A actions.
"""

from typing import Any

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.server.refusal import Refusal

SCORES = {"ppo": "probabilities", "dqn": "values"}
"""Output of each network, of which the action with the largest is chosen: probability, or action value."""


class Balancer:
    """Choose actions with an exported agent; they are greedy, as in the evaluation of chapter 7."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.name: str = model.card.name
        self.observation: list[str] = model.serving.observation
        self.actions: list[str] = model.serving.actions

    def scores(self, states: np.ndarray) -> np.ndarray:
        """(B, D) states -> (B, A) probabilities or values of the actions"""
        return self.model(observations=states.astype(np.float32))[SCORES[self.name]]

    def decide(self, states: list[list[float]]) -> dict[str, Any]:
        """Choose the action of each state; raises Refusal if a state does not have D numbers."""
        for number, state in enumerate(states):
            if len(state) != len(self.observation):
                reason = f"must have {len(self.observation)} numbers ({', '.join(self.observation)}), got {len(state)}"
                raise Refusal(reason, field=f"states[{number}]")
        scores = self.scores(np.array(states))
        chosen = scores.argmax(1).tolist()
        decisions = [
            {"action": action, SCORES[self.name]: row} for action, row in zip(chosen, scores.tolist(), strict=True)
        ]
        return {"model": self.name, "actions": self.actions, "decisions": decisions}
