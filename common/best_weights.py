"""Keep the weights of the epoch with the lowest validation loss."""

import math
from typing import Any

from torch import Tensor, nn


class BestWeights:
    """Weights of the epoch with the lowest validation loss; part of the checkpoint."""

    def __init__(self, model: nn.Module, *, latest: bool = False) -> None:
        """Watch a model; of epochs with equal losses, the first is kept, or the latest one."""
        self.latest = latest
        self.model, self.loss, self.epoch = model, math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def update(self, loss: float, epoch: int) -> None:
        """Copy the model's weights if this validation loss is the lowest so far."""
        if loss < self.loss or (self.latest and loss == self.loss):
            self.loss, self.epoch = loss, epoch
            self.weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def restore(self) -> None:
        """Load the best weights into the model."""
        self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return {"loss": self.loss, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.loss, self.epoch, self.weights = state["loss"], state["epoch"], state["weights"]
