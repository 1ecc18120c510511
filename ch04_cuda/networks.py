"""MLP, CNN and LSTM for this chapter: 28x28 images to ten logits.

Dimensions: B batch, P pixels (784), H hidden units, K classes (10).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIXEL_SCALE = 1 / 128
"""Scale of the pixels, to [0, 2): a power of two, so that bfloat16 represents every scaled pixel exactly."""


def mlp(width: int = 300) -> nn.Sequential:
    """Make the feed-forward network of chapter 3, 784-300-100-10; the second hidden layer has a third of the width."""
    second = width // 3
    layers = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, second), nn.ReLU(), nn.Linear(second, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def cnn(width: int = 32) -> nn.Sequential:
    """Make a CNN: 3x3 convolutions to `width` and 2 `width` channels, each with max pooling, and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, width, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class RowLSTM(nn.Module):
    """LSTM over the rows of an image, 28 steps of 28 pixels, with a linear layer on the last state."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 1, 28, 28) scaled pixels -> (B, K) logits"""
        states, _ = self.lstm(pixels.squeeze(1))
        return self.head(states[:, -1])


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"mlp": mlp, "cnn": cnn, "lstm": RowLSTM}
"""Constructors of the networks, which take a width."""

WIDTHS = {"mlp": 300, "cnn": 32, "lstm": 128}
"""Default widths of the networks."""


def scaled(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) uint8 -> (B, 1, 28, 28) float32 pixels in [0, 2)"""
    return images.float().mul_(PIXEL_SCALE)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one gradient step on scaled pixels; return the loss as a tensor on the device."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        logits = model(pixels)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """(N, 1, 28, 28) uint8 images, (N,) labels -> accuracy"""
    device = next(model.parameters()).device
    guesses = torch.cat([model(scaled(part.to(device))).argmax(1).cpu() for part in images.split(2_000)])
    return float((guesses == labels).float().mean())
