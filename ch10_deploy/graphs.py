"""What is exported of each network: arithmetic from what a client has to what a client wants, and examples to check it.

The way from bytes to numbers belongs to the graph: a server that scaled pixels itself would one day scale them
differently.

Dimensions: B batch, K classes (10).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ch03_autoencoder_rbm import feedforward
from common.data.images import CLASS_NAMES, load_images

EXAMPLES = 256
"""Inputs that a graph is checked on."""


@dataclass(frozen=True)
class Graph:
    """A network as it is to be exported."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples by name, in the order of the module's arguments."""
    outputs: tuple[str, ...]
    """Names of what the module gives; the first is held against the original's, number by number."""
    original: Callable[..., Tensor]
    """The network as its chapter asks it: the same inputs, the first output."""
    dynamic: dict[str, dict[int, str]]
    """Dimensions of the inputs that may have any size, by name."""
    serving: dict[str, Any] = field(default_factory=dict)
    """What the server needs besides."""


class Digits(nn.Module):
    """(B, 28, 28) bytes -> (B, K) logits, (B, K) probabilities"""

    def __init__(self, model: feedforward.FeedForward) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, classify, normalise."""
        logits = self.model(feedforward.scaled(pixels))
        return logits, logits.softmax(1)


def digits(folder: Path, data: str) -> Graph:
    """Prepare the classifier of chapter 3."""
    model, _ = feedforward.restore(folder)
    images = load_images("digits").test.pixels[:EXAMPLES]
    return Graph(
        module=Digits(model),
        inputs={"pixels": images.squeeze(1)},
        outputs=("logits", "probabilities"),
        original=lambda pixels: feedforward.predict(model, pixels.unsqueeze(1)),
        dynamic={"pixels": {0: "batch"}},
        serving={"classes": list(CLASS_NAMES[data])},
    )
