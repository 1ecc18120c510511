"""Check of exercise 8: one step back in a diffusion model."""

from collections.abc import Callable
from random import Random

from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def mean_by_regression(x_0: Tensor, x_t: Tensor, alpha: Tensor, abar_before: Tensor) -> Tensor:
    """Expected means by linear regression: E[x_{t-1}] + cov(x_{t-1}, x_t) / var(x_t) (x_t - E[x_t]), given x_0."""
    mean, variance = abar_before.sqrt() * x_0, 1 - abar_before
    covariance, variance_t = alpha.sqrt() * variance, alpha * variance + 1 - alpha
    return mean + covariance / variance_t * (x_t - alpha.sqrt() * mean)


def wrong_mean(*, root: bool = True, swapped: bool = False, normalised: bool = True) -> Callable[..., Tensor]:
    """Make a wrong function."""

    def wrong(x_0: Tensor, x_t: Tensor, alpha: Tensor, abar_before: Tensor) -> Tensor:
        beta, rest = 1 - alpha, 1 - abar_before
        near, far = (alpha.sqrt(), abar_before.sqrt()) if root else (alpha, abar_before)
        weights = (far * rest, near * beta) if swapped else (far * beta, near * rest)
        return (weights[0] * x_0 + weights[1] * x_t) / (1 - alpha * abar_before if normalised else 1)

    return wrong


def pixels(x_0: list, x_t: list, alpha: list, abar_before: list) -> Arguments:
    """Arguments of the mean."""
    values = {"x_0": x_0, "x_t": x_t, "alpha": alpha, "abar_before": abar_before}
    return {name: vector(*value) for name, value in values.items()}


def random_pixels(generator: Random, size: int) -> Arguments:
    """Arguments with shares between 0.1 and 0.9."""
    shares = {name: integers(generator, size, low=1, high=9) / 10 for name in ("alpha", "abar_before")}
    return {"x_0": integers(generator, size), "x_t": integers(generator, size), **shares}


POSTERIOR_MEAN = Exercise(
    file="ex8_posterior_mean",
    function="posterior_mean",
    reference=mean_by_regression,
    cases=(
        Case(pixels([1], [3], [0.25], [1]), "the first step: x_{t-1} is the image"),
        Case(pixels([1], [0], [0.25], [0.64]), "the share of the image"),
        Case(pixels([0], [1], [0.25], [0.64]), "the share of the noisy image"),
        Case(pixels([2, -1], [1, 1], [0.81, 0.25], [0.5, 0.36]), "each pixel with its own step"),
    ),
    sample=random_pixels,
    hint="A product of Gaussians has the mean (m_1 / v_1 + m_2 / v_2) / (1 / v_1 + 1 / v_2).",
    mistakes={
        "a pixel is scaled by the square root of alpha or abar": wrong_mean(root=False),
        "the variances are exchanged: the more certain of two means has the larger weight": wrong_mean(swapped=True),
        "the weights are not divided by their sum": wrong_mean(normalised=False),
        "this is the mean of x_{t-1} given x_0; x_t says more": lambda x_0, x_t, alpha, abar_before: (  # noqa: ARG005
            abar_before.sqrt() * x_0
        ),
    },
)
