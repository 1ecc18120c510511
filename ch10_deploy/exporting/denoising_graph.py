"""Define the exported graph of chapter 8's diffusion model: one prediction of the noise; the server takes the steps.

Dimensions: B batch.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ch08_vae.diffusion import diffusion
from ch08_vae.diffusion.network import UNet
from ch08_vae.diffusion.schedule import Schedule
from ch10_deploy.exporting.graphs import Graph

EXAMPLES = 44
"""Number of noisy images on which the graph is compared with the original."""


class Denoise(nn.Module):
    """Chapter 8's network: the noise in an image."""

    def __init__(self, model: UNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, times: Tensor, classes: Tensor) -> tuple[Tensor]:
        """(B, 28, 28) noisy images, (B,) times, (B,) classes -> (B, 28, 28) predicted noise"""
        return (self.model(images.unsqueeze(1), times, classes).squeeze(1),)


def denoise(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 8's diffusion model, from a run."""
    model, schedule, _ = diffusion.restore(folder)
    return denoise_of(model, schedule)


def denoise_of(model: UNet, schedule: Schedule) -> Graph:
    """Build the graph of a diffusion model; the examples have every class, times in equal steps, and random pixels."""
    images = torch.randn(EXAMPLES, 28, 28, generator=torch.Generator().manual_seed(0))
    times = torch.linspace(1, schedule.steps, EXAMPLES).round().long()

    def original(images: Tensor, times: Tensor, classes: Tensor) -> tuple[Tensor]:
        return (model(images.view(-1, 1, 28, 28), times, classes).view(-1, 28, 28),)

    return Graph(
        module=Denoise(model.to(memory_format=torch.contiguous_format)),
        inputs={"images": images, "times": times, "classes": torch.arange(EXAMPLES) % (model.classes + 1)},
        outputs=("noise",),
        original=original,
        dynamic={name: {0: "batch"} for name in ("images", "times", "classes")},
        serving={"abar": schedule.abar.tolist(), "digits": model.classes},
    )
