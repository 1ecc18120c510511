"""References, cases and hints of the exercises of chapter 3."""

import itertools
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.exercise import Arguments, Case, Exercise, integers, vector


def matrix(*rows: list[float]) -> Tensor:
    """Return a float64 matrix."""
    return torch.tensor(rows, dtype=torch.float64)


# 1: denoising


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

# 2: principal components


def reconstruct_by_covariance(x: Tensor, k: int) -> Tensor:
    """Expected reconstructions by the eigenvectors of the covariance matrix."""
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean))
    chosen = vectors[:, vectors.shape[1] - k :]
    return mean + (x - mean) @ chosen @ chosen.mT


def wrong_components(
    *, centred: bool = True, restored: bool = True, smallest: bool = False
) -> Callable[[Tensor, int], Tensor]:
    """Make a wrong function."""

    def wrong(x: Tensor, k: int) -> Tensor:
        mean = x.mean(0) if centred else torch.zeros_like(x[0])
        directions = torch.linalg.svd(x - mean, full_matrices=True).Vh
        directions = directions[-k:] if smallest else directions[:k]
        return (mean if restored else 0) + (x - mean) @ directions.mT @ directions

    return wrong


def sample_images(generator: Random, size: int) -> Arguments:
    """Random images whose directions have different variances: each column has other powers of two."""
    pixels = min(size, 3)
    x = integers(generator, size + 2, pixels) * vector(*(4.0**i for i in range(pixels)))
    covariance = torch.cov(x.mT).reshape(pixels, pixels)
    values = torch.linalg.eigvalsh(covariance)
    k = generator.randint(1, pixels)
    gap = 1.0 if k == pixels else float(values[pixels - k] - values[pixels - k - 1])
    return {"x": x, "k": k if gap > 1e-3 else pixels}  # with equal eigenvalues the directions are not unique


PRINCIPAL_COMPONENTS = Exercise(
    file="ex2_principal_components",
    function="reconstruct",
    reference=reconstruct_by_covariance,
    cases=(
        Case({"x": matrix([1], [3]), "k": 1}, "as many components as pixels: nothing is lost"),
        Case({"x": matrix([0, 0], [1, 1]), "k": 1}, "images on a line: one component is enough"),
        Case({"x": matrix([0, 1], [2, 3]), "k": 1}, "images on a line that does not pass through 0"),
        Case(
            {"x": matrix([-2, 0], [2, 0], [0, -1], [0, 1]), "k": 1}, "the direction with the largest variance is kept"
        ),
        Case({"x": matrix([-2, 5], [2, 5], [0, 4], [0, 6]), "k": 1}, "the same images with another mean"),
    ),
    sample=sample_images,
    hint=(
        "Subtract the mean image. `torch.linalg.svd(x - mean, full_matrices=False).Vh` has the directions as rows, the "
        "one with the largest variance first. Do not forget the mean at the end."
    ),
    mistakes={
        "subtract the mean image before the decomposition": wrong_components(centred=False),
        "the mean image is missing in the reconstruction": wrong_components(restored=False),
        "these are the components with the smallest variance; `eigh` sorts in ascending order": wrong_components(
            smallest=True
        ),
    },
)

# 3: free energy


def machine(v: list, weight: list, a: list, b: list) -> Arguments:
    """Arguments of the free energy."""
    return {"v": matrix(*v), "weight": matrix(*weight), "a": vector(*a), "b": vector(*b)}


def free_energy_by_enumeration(v: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Expected free energies: the sum over all hidden states."""
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(b))), dtype=v.dtype)
    negative_energy = (v @ a)[:, None] + states @ b + v @ weight @ states.mT
    return -torch.logsumexp(negative_energy, 1)


def sample_machine(generator: Random, size: int) -> Arguments:
    """Random RBM with at most three units per layer."""
    visible, hidden = generator.randint(1, min(size, 3)), generator.randint(1, min(size, 3))
    return {
        "v": integers(generator, 2, visible, low=0, high=1),
        "weight": integers(generator, visible, hidden),
        "a": integers(generator, visible),
        "b": integers(generator, hidden),
    }


FREE_ENERGY = Exercise(
    file="ex3_free_energy",
    function="free_energy",
    reference=free_energy_by_enumeration,
    cases=(
        Case(machine([[0]], [[0]], [0], [0]), "the hidden unit has two states of energy 0: -log 2"),
        Case(machine([[1]], [[0]], [3], [0]), "the visible bias: -3 - log 2"),
        Case(machine([[0]], [[0]], [0], [2]), "the hidden bias: -log(1 + e^2)"),
        Case(machine([[1]], [[2]], [0], [0]), "the weight: -log(1 + e^2)"),
        Case(machine([[0]], [[0, 0]], [0], [0, 0]), "two hidden units have four states: -log 4"),
        Case(machine([[1], [0]], [[1]], [0], [0]), "one free energy for each row"),
        Case(machine([[1]], [[1000]], [0], [0]), "e^1000 overflows"),
    ),
    sample=sample_machine,
    hint="For one hidden unit with x = b + v W: which two terms has the sum over h? What is its logarithm?",
    mistakes={
        "e^x overflows: use `F.softplus`": lambda v, weight, a, b: -v @ a - (1 + (v @ weight + b).exp()).log().sum(1),
        "the visible biases are missing": lambda v, weight, a, b: -F.softplus(v @ weight + b).sum(1),  # noqa: ARG005
        "the sign is wrong: e^-F is the probability without Z": lambda v, weight, a, b: (
            v @ a + F.softplus(v @ weight + b).sum(1)
        ),
        "this is the energy of the most probable hidden state; the sum contains all of them": lambda v, weight, a, b: (
            -v @ a - (v @ weight + b).clamp_min(0).sum(1)
        ),
    },
)

# 4: contrastive divergence


def divergence_by_loops(v: Tensor, weight: Tensor, a: Tensor, b: Tensor, u_h: Tensor, u_v: Tensor) -> Tensor:
    """Expected gradient, sample by sample, as a difference of outer products."""
    total = torch.zeros_like(weight)
    for row, noise_h, noise_v in zip(v, u_h, u_v, strict=True):
        p = 1 / (1 + torch.exp(-(b + weight.mT @ row)))
        h = torch.where(noise_h < p, 1.0, 0.0).double()
        sampled = torch.where(noise_v < 1 / (1 + torch.exp(-(a + weight @ h))), 1.0, 0.0).double()
        last = 1 / (1 + torch.exp(-(b + weight.mT @ sampled)))
        total += torch.outer(row, p) - torch.outer(sampled, last)
    return total / len(v)


def wrong_divergence(
    *, sample_h: bool = True, sample_v: bool = True, states: bool = False, last: bool = False, averaged: bool = True
) -> Callable[..., Tensor]:
    """Make a wrong function."""

    def wrong(v: Tensor, weight: Tensor, a: Tensor, b: Tensor, u_h: Tensor, u_v: Tensor) -> Tensor:
        p = torch.sigmoid(b + v @ weight)
        h = (u_h < p).to(v.dtype)
        q = torch.sigmoid(a + (h if sample_h else p) @ weight.mT)
        sampled = (u_v < q).to(v.dtype) if sample_v else q
        second = p if last else torch.sigmoid(b + sampled @ weight)
        total = v.mT @ (h if states else p) - sampled.mT @ second
        return total / len(v) if averaged else total

    return wrong


def chain(v: list, weight: list, a: list, b: list, u_h: list, u_v: list) -> Arguments:
    """Arguments of contrastive divergence."""
    return {**machine(v, weight, a, b), "u_h": matrix(*u_h), "u_v": matrix(*u_v)}


def sample_chain(generator: Random, size: int) -> Arguments:
    """Random RBM and random numbers."""
    given = sample_machine(generator, size)
    rows, visible, hidden = len(given["v"]), len(given["a"]), len(given["b"])
    noise = {"u_h": integers(generator, rows, hidden, low=1, high=19) / 20}
    return {**given, **noise, "u_v": integers(generator, rows, visible, low=1, high=19) / 20}


CONTRASTIVE_DIVERGENCE = Exercise(
    file="ex4_contrastive_divergence",
    function="contrastive_divergence",
    reference=divergence_by_loops,
    cases=(
        Case(chain([[1]], [[0]], [0], [0], [[0.4]], [[0.4]]), "v' = v and p' = p: no gradient"),
        Case(chain([[1]], [[0]], [0], [0], [[0.4]], [[0.6]]), "v' = 0, because u_v is not below 0.5: dW = v p = 0.5"),
        Case(chain([[0]], [[0]], [0], [0], [[0.4]], [[0.4]]), "v = 0 and v' = 1: dW = -v' p' = -0.5"),
        Case(chain([[1]], [[1]], [0], [0], [[0.8]], [[0.7]]), "h = 0, so s(a + h W) = 0.5 and v' = 0"),
        Case(chain([[0]], [[2]], [0], [0], [[0.4]], [[0.4]]), "p' belongs to v' = 1: s(2) = 0.88, not s(0)"),
        Case(chain([[1], [1]], [[0]], [0], [0], [[0.4], [0.4]], [[0.6], [0.6]]), "the mean over the batch"),
    ),
    sample=sample_chain,
    hint=(
        "Write the five lines of the task with matrix products. (u < p) is a tensor of booleans; `.to(v.dtype)` makes "
        "numbers of it. v.mT @ p is the sum of the outer products of the rows."
    ),
    mistakes={
        "the chain continues from the states h, not from the probabilities p": wrong_divergence(sample_h=False),
        "v' are states, not probabilities": wrong_divergence(sample_v=False),
        "the statistics contain the probabilities p, not the states h": wrong_divergence(states=True),
        "p' are the probabilities given v', not given v": wrong_divergence(last=True),
        "the gradient is a mean over the batch": wrong_divergence(averaged=False),
    },
)

# 5: effective chains

EFFECTIVE_CHAINS = Exercise(
    file="ex5_effective_chains",
    function="effective_chains",
    reference=lambda log_w: torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)),
    cases=(
        Case({"log_w": vector(0)}, "one chain"),
        Case({"log_w": vector(0, 0)}, "equal weights: all chains count"),
        Case({"log_w": vector(3, 3)}, "a common factor of the weights does not matter"),
        Case({"log_w": vector(0, -50)}, "one weight is much larger: one chain counts"),
        Case({"log_w": vector(0, -1, -2)}, "between 1 and 3"),
        Case({"log_w": vector(1000, 1000)}, "e^1000 overflows"),
        Case({"log_w": vector(-1000, -1000)}, "e^-1000 is rounded to 0"),
    ),
    sample=lambda generator, size: {"log_w": integers(generator, size)},
    hint="Subtract the same number from all logarithms: which one makes the largest weight 1?",
    mistakes={
        "e^(log w) overflows or is rounded to 0: subtract the maximum first": lambda log_w: (
            log_w.exp().sum() ** 2 / log_w.exp().square().sum()
        ),
        "the sum in the numerator is squared": lambda log_w: (
            (log_w - log_w.max()).exp().sum() / (log_w - log_w.max()).exp().square().sum()
        ),
        "the weights count, not their logarithms": lambda log_w: log_w.sum() ** 2 / log_w.square().sum(),
    },
)

EXERCISES = (DENOISING, PRINCIPAL_COMPONENTS, FREE_ENERGY, CONTRASTIVE_DIVERGENCE, EFFECTIVE_CHAINS)
"""Exercises of the chapter in order."""
