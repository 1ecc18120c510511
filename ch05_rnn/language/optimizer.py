"""The optimizer of the Transformer: Muon for matrices, AdamW for everything else.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest matrix with equal singular values, so that an
update changes all directions equally. It suits matrices that multiply hidden features. Embedding, output layer and
norms are updated by AdamW (Loshchilov & Hutter 2019).
"""

from collections.abc import Callable
from typing import Any

import torch

from ch05_rnn.language.transformer import Transformer
from common.schedule import set_learning_rate

ADAMW_SHARE = 0.2
"""Learning rate of AdamW, as a share of Muon's."""


class MuonAdamW(torch.optim.Optimizer):
    """Both optimizers as one, with Muon's learning rate as `lr`."""

    def __init__(self, model: Transformer, learning_rate: float, weight_decay: float) -> None:
        super().__init__(model.parameters(), {"lr": learning_rate})
        matrices = [parameter for parameter in model.blocks.parameters() if parameter.dim() == 2]
        known = {id(matrix) for matrix in matrices}
        others = [parameter for parameter in model.parameters() if id(parameter) not in known]
        self.muon = torch.optim.Muon(matrices, learning_rate, weight_decay, momentum=0.95)
        self.adamw = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter."""
        assert closure is None
        (group,) = self.param_groups
        for optimizer, share in ((self.muon, 1.0), (self.adamw, ADAMW_SHARE)):
            set_learning_rate(optimizer, share * group["lr"])
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of both."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
