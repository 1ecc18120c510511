"""Moving average of the weights over the training steps (Polyak & Juditsky 1992)."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class WeightAverage(Generic[M]):
    """A copy of a network whose weights are an exponential moving average; part of the checkpoint.

    m_t = d_t m_{t-1} + (1 - d_t) w_t with d_t = min(d, t / (t + 10)), so that the first steps are soon forgotten.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model, self.decay, self.steps = copy.deepcopy(model), decay, 0
        self.model.requires_grad_(False)

    @torch.no_grad()
    def update(self, model: M) -> None:
        """Move the average towards the weights of a network."""
        self.steps += 1
        rate = 1 - min(self.decay, self.steps / (self.steps + 10))
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, rate)
            else:
                mean.copy_(value)  # the number of batches of batch normalisation

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return {"steps": self.steps, "weights": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["weights"])
