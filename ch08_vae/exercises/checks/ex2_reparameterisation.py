"""Check of exercise 2: reparameterisation."""

import torch
from torch import Tensor
from torch.distributions import Normal

from common.exercises.arguments import integers, matrix
from common.exercises.exercise import Arguments, Case, Exercise


def sample_of_torch(mu: Tensor, logvar: Tensor, epsilon: Tensor) -> Tensor:
    """Expected sample: the inverse of the distribution function at that of the noise."""
    standard = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return Normal(mu, logvar.exp().sqrt()).icdf(standard.cdf(epsilon))


def latent(mu: list[float], logvar: list[float], epsilon: list[float]) -> Arguments:
    """Arguments of one row."""
    return {"mu": matrix(mu), "logvar": matrix(logvar), "epsilon": matrix(epsilon)}


REPARAMETERISATION = Exercise(
    file="ex2_reparameterisation",
    function="sample",
    reference=sample_of_torch,
    tolerance=1e-7,
    cases=(
        Case(latent([3], [0], [0]), "without noise: the mean"),
        Case(latent([0], [0], [1]), "sigma = 1: the noise itself"),
        Case(latent([0], [2], [1]), "log sigma^2 = 2: sigma = e"),
        Case(latent([1, 0], [-2, 0], [1, -1]), "log sigma^2 = -2: sigma = 1 / e"),
    ),
    sample=lambda generator, size: {
        "mu": integers(generator, 1, size),
        "logvar": integers(generator, 1, size, low=-2, high=2),
        "epsilon": integers(generator, 1, size, low=-2, high=2),
    },
    hint="sigma^2 = exp(logvar). What is sigma, and which exponent gives it?",
    mistakes={
        "the noise is multiplied by sigma, not by sigma^2": lambda mu, logvar, epsilon: mu + logvar.exp() * epsilon,
        "`logvar` is a logarithm": lambda mu, logvar, epsilon: mu + logvar * epsilon,
        "without noise nothing is sampled": lambda mu, logvar, epsilon: mu,  # noqa: ARG005
    },
)
