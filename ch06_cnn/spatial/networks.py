"""Three networks that read the digits of an image: a CNN, one with a spatial transformer (SPN), and a recurrent SPN.

A localisation network computes the parameters theta of an affine transformation from the image. The sampler reads the
image at the transformed positions of a small output; a CNN classifies the output. The recurrent SPN (Sønderby et al.
2015) computes one theta per digit and classifies the outputs with the same weights.

Dimensions: B batch, S image size, S' size of the transformer's output, R attended regions, K digits, 10 classes.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.spatial import transformer

CLASSES = 10

SHARPNESS = 4.0
"""Standard deviation of a new localisation network's feature maps: their softmax has a clear maximum."""

Form = Literal["affine", "attention"]
Features = Literal["positions", "flat"]
Sampler = Literal["torch", "by-hand"]


def convolution(channels: int, width: int, *, pool: bool) -> list[nn.Module]:
    """A 3x3 convolution, batch normalisation, ReLU and optionally 2x2 max pooling."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    ]  # fmt: skip
    return [*layers, nn.MaxPool2d(2)] if pool else layers


class Classifier(nn.Module):
    """A convolutional network for one or several digits."""

    def __init__(self, size: int, digits: int = 1) -> None:
        super().__init__()
        self.digits = digits
        self.features = nn.Sequential(
            *convolution(1, 16, pool=True), *convolution(16, 32, pool=True), *convolution(32, 64, pool=False)
        )
        self.output = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * (size // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, digits * CLASSES)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, K, 10) logits"""
        return self.output(self.features(images)).view(-1, self.digits, CLASSES)


class CNN(Classifier):
    """The classifier on the whole image, without a transformer."""

    def attend(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, 0, 2, 3): no regions"""
        return images.new_zeros(len(images), 0, 2, 3)


def expected_positions(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 2 C): the expected x and y of each map's softmax over its positions, -1 to 1

    The spatial softmax (Levine et al. 2016): if a map is largest where something is, its output is where it is.
    """
    height, width = maps.shape[2:]
    points = transformer.target_points((height, width), maps, align_corners=False)[:, :2]  # (H W, 2)
    return (maps.flatten(2).softmax(dim=2) @ points).flatten(1)


class Localisation(nn.Module):
    """Features for the localisation, from the image reduced to 21 to 30 pixels.

    The features are the expected positions of 32 feature maps, or the maps themselves (`flat`).
    """

    def __init__(self, size: int, features: Features = "positions") -> None:
        super().__init__()
        self.features, self.reduction, channels = features, 4 if size > 60 else 2, 32
        norm = nn.BatchNorm2d(channels)
        nn.init.constant_(norm.weight, SHARPNESS if features == "positions" else 1.0)
        self.layers = nn.Sequential(
            *convolution(1, 16, pool=True),
            *convolution(16, channels, pool=False),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm,
        )
        edge = size // self.reduction // 2
        self.outputs = 2 * channels if features == "positions" else channels * (edge // 2) ** 2

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, features)"""
        maps = self.layers(F.avg_pool2d(images, self.reduction))
        if self.features == "flat":
            return F.max_pool2d(maps.relu(), 2).flatten(1)
        with torch.autocast(images.device.type, enabled=False):
            return expected_positions(maps.to(torch.promote_types(maps.dtype, torch.float32)))


class Parameters(nn.Linear):
    """Linear layer for theta with zero weights; the biases are the identity, or an upright square at the centre.

    With the form `attention` (equation 2 of the paper) it computes a scale and the centre of an upright square.
    """

    def __init__(self, features: int, form: Form, initial_scale: float = 1.0) -> None:
        super().__init__(features, 6 if form == "affine" else 3)
        self.form, s = form, initial_scale
        nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.bias.copy_(torch.tensor((s, 0.0, 0.0, 0.0, s, 0.0) if form == "affine" else (s, 0.0, 0.0)))

    def forward(self, features: Tensor) -> Tensor:
        """(..., features) -> (..., 2, 3)"""
        with torch.autocast(features.device.type, enabled=False):  # positions need the precision of float32
            theta = super().forward(features.to(self.weight.dtype))
        if self.form == "attention":
            scale, x, y = theta.unbind(-1)
            zero = torch.zeros_like(scale)
            theta = torch.stack([scale, zero, x, zero, scale, y], dim=-1)
        return theta.unflatten(-1, (2, 3))


def torch_grid(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Torch's affine grid, with the conventions of `transformer.affine_grid`."""
    return F.affine_grid(theta, [len(theta), 1, *size], align_corners=False)


def torch_sample(images: Tensor, grid: Tensor) -> Tensor:
    """Torch's bilinear sampler, with the conventions of `transformer.grid_sample`."""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


SAMPLERS: dict[Sampler, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "torch": (torch_grid, torch_sample),
    "by-hand": (transformer.affine_grid, transformer.grid_sample),
}


def sample(images: Tensor, theta: Tensor, size: int, sampler: Sampler = "torch") -> Tensor:
    """(B, 1, S, S), (B, R, 2, 3) -> (B R, 1, S', S'): what the transformer passes on, for each region

    The outputs of an image are sampled at once, one below the other.
    """
    count, regions = theta.shape[:2]
    affine_grid, grid_sample = SAMPLERS[sampler]
    with torch.autocast(images.device.type, enabled=False):
        grid = affine_grid(theta.flatten(0, 1), (size, size)).view(count, regions * size, size, 2)
        return grid_sample(images.to(theta.dtype), grid).view(count * regions, 1, size, size)


class SPN(nn.Module):
    """Spatial transformer network: one region per image, then the classifier."""

    def __init__(
        self,
        size: int,
        crop_size: int,
        digits: int = 1,
        *,
        form: Form = "affine",
        features: Features = "positions",
        initial_scale: float = 1.0,
        sampler: Sampler = "torch",
    ) -> None:
        super().__init__()
        self.crop_size = crop_size
        self.sampler: Sampler = sampler
        self.localisation = Localisation(size, features)
        self.hidden = nn.Sequential(nn.Linear(self.localisation.outputs, 64), nn.Tanh())
        self.theta = Parameters(64, form, initial_scale)
        self.classifier = Classifier(crop_size, digits)

    def attend(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, 1, 2, 3) parameters of the transformation"""
        return self.theta(self.hidden(self.localisation(images))).unsqueeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, K, 10) logits"""
        return self.classifier(sample(images, self.attend(images), self.crop_size, self.sampler))


class RecurrentSPN(nn.Module):
    """Recurrent spatial transformer network: a GRU reads the localisation's features K times, one region per step.

    h_t = GRU(features, h_{t-1}), theta_t = A h_t + b; digit t is classified from region t alone.
    """

    def __init__(
        self,
        size: int,
        crop_size: int,
        digits: int = 1,
        *,
        form: Form = "affine",
        features: Features = "positions",
        initial_scale: float = 1.0,
        sampler: Sampler = "torch",
        hidden_size: int = 128,
    ) -> None:
        super().__init__()
        self.crop_size, self.digits = crop_size, digits
        self.sampler: Sampler = sampler
        self.localisation = Localisation(size, features)
        self.cell = nn.GRUCell(self.localisation.outputs, hidden_size)
        self.theta = Parameters(hidden_size, form, initial_scale)
        self.classifier = Classifier(crop_size)

    def attend(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, K, 2, 3) parameters, one transformation per digit"""
        features, states = self.localisation(images), []
        state = None
        for _ in range(self.digits):
            state = self.cell(features, state)
            states.append(state)
        return self.theta(torch.stack(states, dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, K, 10) logits"""
        regions = sample(images, self.attend(images), self.crop_size, self.sampler)  # (B K, 1, S', S')
        return self.classifier(regions).view(len(images), self.digits, CLASSES)
