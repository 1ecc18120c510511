"""Check of exercise 1: find the bug: the loss of a denoising autoencoder."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.arguments import integers, matrix
from common.exercises.exercise import Case, Exercise


def unchanged(x: Tensor) -> Tensor:
    """Network that returns its input."""
    return x.clone()


def halved(x: Tensor) -> Tensor:
    """Network that returns half of its input."""
    return x / 2


Network = Callable[[Tensor], Tensor]


def denoising_by_pixels(network: Network, x: Tensor, noise: Tensor) -> Tensor:
    """Expected loss with the noisy image pixel by pixel."""
    pairs = zip(x.flatten().tolist(), noise.flatten().tolist(), strict=True)
    noisy = torch.tensor([min(1.0, max(0.0, pixel + error)) for pixel, error in pairs], dtype=x.dtype)
    return F.mse_loss(network(noisy.reshape(x.shape)), x)


def noisy_target(network: Network, x: Tensor, noise: Tensor) -> Tensor:
    """Typical mistake: the noisy image as target."""
    noisy = (x + noise).clamp(0, 1)
    return (network(noisy) - noisy).square().mean()


def clean_input(network: Network, x: Tensor, noise: Tensor) -> Tensor:  # noqa: ARG001  # the signature of the exercise
    """Typical mistake: an input without noise."""
    return (network(x) - x).square().mean()


def unclamped(network: Network, x: Tensor, noise: Tensor) -> Tensor:
    """Typical mistake: pixels outside [0, 1]."""
    return (network(x + noise) - x).square().mean()


def summed(network: Network, x: Tensor, noise: Tensor) -> Tensor:
    """Typical mistake: the sum over the pixels."""
    return denoising_by_pixels(network, x, noise) * x.numel()


DENOISING = Exercise(
    file="ex1_denoising",
    function="denoising_loss",
    reference=denoising_by_pixels,
    cases=(
        Case({"network": unchanged, "x": matrix([0.5]), "noise": matrix([0])}, "without noise the loss is 0"),
        Case({"network": unchanged, "x": matrix([0.5]), "noise": matrix([0.25])}, "the noise is returned: 0.25^2"),
        Case({"network": unchanged, "x": matrix([0.75]), "noise": matrix([1])}, "the noisy pixel is clamped to 1"),
        Case({"network": halved, "x": matrix([0.5]), "noise": matrix([0.5])}, "the output 0.5 is right"),
        Case({"network": halved, "x": matrix([1, 0]), "noise": matrix([0, 0.5])}, "the mean over the pixels"),
    ),
    sample=lambda generator, size: {
        "network": generator.choice([unchanged, halved]),
        "x": integers(generator, 2, size, low=0, high=4) / 4,
        "noise": integers(generator, 2, size, low=-2, high=2) / 4,
    },
    hint="With which network would the loss of the function be 0? Does this network remove noise?",
    mistakes={
        "the target is the image without noise; here a network that returns its input has the loss 0": noisy_target,
        "the network receives the image with noise": clean_input,
        "the noisy image is clamped to [0, 1]": unclamped,
        "the loss is a mean over the pixels": summed,
    },
)
