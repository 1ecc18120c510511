"""Exercises of chapter 3: three typical wrong answers each, and what the reader is told."""

import pytest
import torch
from torch.nn import functional as F

from ch03_autoencoder_rbm.exercises import checks
from common.exercises.check import check


def noisy_target(network, x, noise):
    x = (x + noise).clamp(0, 1)
    return F.mse_loss(network(x), x)


def directions(x, k):
    return torch.linalg.svd(x, full_matrices=False).Vh[:k]


def without_centre(x, k):
    d = directions(x, k)
    return x @ d.mT @ d


def mean_forgotten(x, k):
    x = x - x.mean(0)
    d = directions(x, k)
    return x @ d.mT @ d


def ascending(x, k):
    mean = x.mean(0)
    d = torch.linalg.eigh((x - mean).mT @ (x - mean)).eigenvectors[:, :k]
    return mean + (x - mean) @ d @ d.mT


def overflowing(v, weight, a, b):
    return -v @ a - (1 + (v @ weight + b).exp()).log().sum(1)


def most_probable(v, weight, a, b):
    return -v @ a - F.relu(v @ weight + b).sum(1)


def divergence(v, weight, a, b, u_h, u_v, *, chain=True, positive=True, divide=True):
    p = torch.sigmoid(b + v @ weight)
    h = (u_h < p).to(v.dtype)
    sampled = (u_v < torch.sigmoid(a + (h if chain else p) @ weight.mT)).to(v.dtype)
    total = v.mT @ (p if positive else h) - sampled.mT @ torch.sigmoid(b + sampled @ weight)
    return total / (len(v) if divide else 1)


WRONG = [
    (checks.DENOISING, noisy_target, "x = [[0.5]], noise = [[0.25]] you return 0.0, expected 0.0625"),
    (
        checks.DENOISING,
        lambda network, x, noise: F.mse_loss(network(x), x),
        "the network receives the image with noise",
    ),
    (checks.DENOISING, lambda network, x, noise: F.mse_loss(network(x + noise), x), "the noisy image is clamped"),
    (checks.PRINCIPAL_COMPONENTS, without_centre, "subtract the mean image before the decomposition"),
    (
        checks.PRINCIPAL_COMPONENTS,
        mean_forgotten,
        "for x = [[1.0], [3.0]], k = 1 you return [[-1.0], [1.0]], expected [[",
    ),
    (
        checks.PRINCIPAL_COMPONENTS,
        ascending,
        "the smallest variance; `eigh` sorts in ascending order",
    ),
    (
        checks.FREE_ENERGY,
        overflowing,
        "weight = [[1000.0]], a = [0.0], b = [0.0] you return [-inf], expected [-1000.0]",
    ),
    (checks.FREE_ENERGY, most_probable, "the energy of the most probable hidden state"),
    (checks.FREE_ENERGY, lambda v, weight, a, b: v @ a + F.softplus(v @ weight + b).sum(1), "the sign is wrong"),
    (checks.CONTRASTIVE_DIVERGENCE, lambda **given: divergence(**given, chain=False), "not from the probabilities p"),
    (checks.CONTRASTIVE_DIVERGENCE, lambda **given: divergence(**given, positive=False), "not the states h"),
    (
        checks.CONTRASTIVE_DIVERGENCE,
        lambda **given: divergence(**given, divide=False),
        "the gradient is a mean over the",
    ),
    (
        checks.EFFECTIVE_CHAINS,
        lambda log_w: log_w.exp().sum() ** 2 / (2 * log_w).exp().sum(),
        "you return nan, expected",
    ),
    (checks.EFFECTIVE_CHAINS, lambda log_w: 1 / torch.softmax(log_w, 0).max(), "between 1 and 3"),
    (checks.EFFECTIVE_CHAINS, lambda log_w: log_w.sum() ** 2 / log_w.square().sum(), "not their logarithms"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"
