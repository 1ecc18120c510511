"""Exercises of chapter 8: three typical wrong answers each, and what the reader is told."""

import math

import pytest
import torch
from torch.nn import functional as F

from ch08_vae.exercises import checks
from common.exercises.check import check


def with_log_sigma(mu, logvar):
    return (mu**2 + logvar.exp() - 1 - logvar / 2).sum(1) / 2


def squared_variance(mu, logvar):
    return (mu**2 + logvar.exp() ** 2 - 1 - logvar).sum(1) / 2


def summed_over_batch(mu, logvar):
    return (mu**2 + logvar.exp() - 1 - logvar).sum() / 2


def clamped(logits, x):
    p = torch.sigmoid(logits)
    return (x * p.log().clamp_min(-100) + (1 - x) * (1 - p).log().clamp_min(-100)).sum(1)


def frechet(mean_a, variance_a, mean_b, variance_b):
    return (mean_a - mean_b).square().sum() + (variance_a.sqrt() - variance_b.sqrt()).square().sum()


def back(x_0, x_t, alpha, abar_before):
    weights = abar_before.sqrt() * (1 - alpha), alpha.sqrt() * (1 - abar_before)
    return (weights[0] * x_0 + weights[1] * x_t) / (1 - alpha * abar_before)


WRONG = [
    (
        checks.KL_DIVERGENCE,
        with_log_sigma,
        "for mu = [[0.0]], logvar = [[-0.5]] you return [-0.0717347], expected [0.05",
    ),
    (checks.KL_DIVERGENCE, squared_variance, "`logvar` is log sigma^2, so its exponential is sigma^2 already"),
    (
        checks.KL_DIVERGENCE,
        summed_over_batch,
        "a tensor of shape () and dtype float64, expected a tensor of shape (1,)",
    ),
    (checks.REPARAMETERISATION, lambda mu, logvar, epsilon: mu + logvar.exp() * epsilon, "by sigma, not by sigma^2"),
    (checks.REPARAMETERISATION, lambda mu, logvar, epsilon: mu + logvar * epsilon, "`logvar` is a logarithm"),
    (checks.REPARAMETERISATION, lambda mu, logvar, epsilon: torch.normal(mu, (logvar / 2).exp()), "you return [["),
    (
        checks.LIKELIHOOD,
        lambda logits, x: (x * logits - F.softplus(logits)).mean(1),
        "the sum over its pixels, not the",
    ),
    (checks.LIKELIHOOD, lambda logits, x: (F.softplus(logits) - x * logits).sum(1), "the negative log-likelihood"),
    (checks.LIKELIHOOD, clamped, "x = [[0.0]] you return [-100.0], expected [-1000.0]"),
    (checks.IMPORTANCE_WEIGHTS, lambda log_w: log_w.logsumexp(0), "log k is missing"),
    (checks.IMPORTANCE_WEIGHTS, lambda log_w: log_w.mean(0), "the mean of the logarithms is the ELBO"),
    (checks.IMPORTANCE_WEIGHTS, lambda log_w: log_w.logsumexp(1) - math.log(log_w.shape[1]), "of shape (2,) and dtype"),
    (checks.GENERATOR_GRADIENT, lambda d: -torch.sigmoid(d) / len(d), "this is the gradient of the saturating loss"),
    (checks.GENERATOR_GRADIENT, lambda d: -torch.sigmoid(-d), "for d = [0.0, 0.0] you return [-0.5, -0.5], expected"),
    (checks.GENERATOR_GRADIENT, lambda d: -1 / (1 + d.exp()), "the loss is a mean over the batch"),
    (checks.FRECHET_DISTANCE, lambda **given: frechet(**given).sqrt(), "this is d, not d^2"),
    (checks.FRECHET_DISTANCE, lambda **given: frechet(**given) / len(given["mean_a"]), "are added, not averaged"),
    (
        checks.FRECHET_DISTANCE,
        lambda mean_a, variance_a, mean_b, variance_b: frechet(mean_a, variance_a**2, mean_b, variance_b**2),
        "the standard deviations are compared, not the variances",
    ),
    (
        checks.GRADIENT_PENALTY,
        lambda y, w, a: ((a @ w).expand(len(y), -1).norm(dim=1) - 1).square().mean(),
        "for y = [[-1.0]], w = [[3.0]], a = [1.0] you return 4.0, expected 1.0",
    ),
    (
        checks.GRADIENT_PENALTY,
        lambda y, w, a: ((((y @ w.mT > 0) * a) @ w).square().sum(1) - 1).square().mean(),
        "the norm is compared with 1, not its square",
    ),
    (
        checks.GRADIENT_PENALTY,
        lambda y, w, a: ((((y @ w.mT > 0) * a) @ w).norm(dim=1).mean() - 1).square(),
        "the deviations from 1 are squared before the mean",
    ),
    (checks.POSTERIOR_MEAN, lambda x_0, x_t, alpha, abar_before: abar_before.sqrt() * x_0, "x_t says more"),
    (
        checks.POSTERIOR_MEAN,
        lambda **given: back(**given) * (1 - given["alpha"] * given["abar_before"]),
        "by their sum",
    ),
    (
        checks.POSTERIOR_MEAN,
        lambda x_0, x_t, alpha, abar_before: back(x_0, x_t, alpha.square(), abar_before.square()),
        "you return [",
    ),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"
