"""Check of exercise 1: find the bug: a wrong KL term."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from common.exercises.arguments import integers, matrix
from common.exercises.exercise import Case, Exercise


def kl_of_torch(mu: Tensor, logvar: Tensor) -> Tensor:
    """Expected divergences by torch.distributions."""
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return torch.distributions.kl_divergence(Normal(mu, logvar.exp().sqrt()), prior).sum(1)


def wrong_kl(
    *, logarithm: float = 1.0, half: bool = True, variance: float = 1.0, mean: bool = False
) -> Callable[..., Tensor]:
    """Make a wrong function."""

    def wrong(mu: Tensor, logvar: Tensor) -> Tensor:
        terms = (mu**2 + (variance * logvar).exp() - 1 - logarithm * logvar) / (2 if half else 1)
        return terms.mean(1) if mean else terms.sum(1)

    return wrong


KL_DIVERGENCE = Exercise(
    file="ex1_kl_divergence",
    function="kl_divergence",
    reference=kl_of_torch,
    cases=(
        Case({"mu": matrix([0]), "logvar": matrix([0])}, "equal distributions: 0"),
        Case({"mu": matrix([2]), "logvar": matrix([0])}, "another mean: mu^2 / 2"),
        Case({"mu": matrix([0]), "logvar": matrix([-0.5])}, "a KL divergence is never negative"),
        Case({"mu": matrix([0]), "logvar": matrix([1])}, "another variance"),
        Case({"mu": matrix([1, 1]), "logvar": matrix([0, 0])}, "a sum over the latent units"),
        Case({"mu": matrix([1], [0]), "logvar": matrix([0], [0])}, "one divergence for each row"),
    ),
    sample=lambda generator, size: {
        "mu": integers(generator, 2, size),
        "logvar": integers(generator, 2, size, low=-2, high=2),
    },
    hint="What is log sigma, expressed by logvar? Which power of sigma is in the logarithm of the formula?",
    mistakes={
        "the logarithm is that of sigma^2, and `logvar` is this logarithm": wrong_kl(logarithm=0.5),
        "the factor 1/2 is missing": wrong_kl(half=False),
        "`logvar` is log sigma^2, so its exponential is sigma^2 already": wrong_kl(variance=2.0),
        "the divergences of independent units are added, not averaged": wrong_kl(mean=True),
    },
)
