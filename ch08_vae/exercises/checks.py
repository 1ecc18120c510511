"""References, cases and hints of the exercises of chapter 8."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from common.exercises.exercise import Arguments, Case, Exercise, integers, vector


def matrix(*rows: list[float]) -> Tensor:
    """Return a float64 matrix."""
    return torch.tensor(rows, dtype=torch.float64)


# 1: KL divergence


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

# 2: reparameterisation


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

# 3: likelihood


def likelihood_of_torch(logits: Tensor, x: Tensor) -> Tensor:
    """Expected log-likelihoods by PyTorch's loss."""
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


LIKELIHOOD = Exercise(
    file="ex3_likelihood",
    function="log_likelihood",
    reference=likelihood_of_torch,
    cases=(
        Case({"logits": matrix([0]), "x": matrix([1])}, "p = 1/2: log(1/2)"),
        Case({"logits": matrix([2]), "x": matrix([1])}, "a pixel 1 with a positive logit is probable"),
        Case({"logits": matrix([2]), "x": matrix([0])}, "a pixel 0 with a positive logit is improbable"),
        Case({"logits": matrix([0, 0]), "x": matrix([1, 0])}, "the sum over two pixels"),
        Case({"logits": matrix([0], [0]), "x": matrix([1], [0])}, "one log-likelihood for each image"),
        Case({"logits": matrix([1000]), "x": matrix([0])}, "1 - s(1000) is rounded to 0, and log 0 is minus infinity"),
    ),
    sample=lambda generator, size: {
        "logits": integers(generator, 2, size),
        "x": integers(generator, 2, size, low=0, high=1),
    },
    hint="`F.logsigmoid` does not overflow. Which logit has the probability of a pixel 0?",
    mistakes={
        "the log-likelihood of an image is the sum over its pixels, not the mean": lambda logits, x: (
            likelihood_of_torch(logits, x) / logits.shape[1]
        ),
        "this is the loss, the negative log-likelihood": lambda logits, x: -likelihood_of_torch(logits, x),
        "s is rounded to 0 or 1: compute log s(l) and log s(-l) with `F.logsigmoid`": lambda logits, x: torch.where(
            x == 1, torch.sigmoid(logits).log(), (1 - torch.sigmoid(logits)).log()
        ).sum(1),
        "pixels 0 have a probability as well: log s(-l)": lambda logits, x: (x * F.logsigmoid(logits)).sum(1),
    },
)

# 4: importance weights


def bound_by_ratios(log_w: Tensor) -> Tensor:
    """Expected bounds relative to the first sample's weight in float64."""
    largest = log_w.max(0).values
    return largest + (log_w - largest).exp().mean(0).log()


IMPORTANCE_WEIGHTS = Exercise(
    file="ex4_importance_weights",
    function="importance_weighted_bound",
    reference=bound_by_ratios,
    cases=(
        Case({"log_w": matrix([-2])}, "one sample: its logarithm"),
        Case({"log_w": matrix([-2], [-2])}, "the mean of equal weights is the weight"),
        Case({"log_w": matrix([0], [-1])}, "the logarithm of the mean, not the mean of the logarithms"),
        Case({"log_w": matrix([0, -3], [0, -3])}, "the mean is over the samples, one bound for each image"),
        Case({"log_w": matrix([-1000], [-1000])}, "e^-1000 is rounded to 0, and log 0 is minus infinity"),
    ),
    sample=lambda generator, size: {"log_w": integers(generator, size, 2, low=-9, high=0)},
    hint="`torch.logsumexp` computes log(sum_s e^(log w_s)). What is missing for the mean?",
    mistakes={
        "log k is missing: this is the logarithm of the sum, not of the mean": lambda log_w: log_w.logsumexp(0),
        "the mean of the logarithms is the ELBO; take the logarithm of the mean of the weights": lambda log_w: (
            log_w.mean(0)
        ),
        "e^(log w) is rounded to 0: use `torch.logsumexp`": lambda log_w: log_w.exp().mean(0).log(),
        "divide by k inside the logarithm: subtract log k": lambda log_w: log_w.logsumexp(0) / len(log_w),
    },
)

# 5: generator


def generator_gradient_by_autograd(d: Tensor) -> Tensor:
    """Gradient of the non-saturating loss by autograd."""
    d = d.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.softplus(-d).mean(), d)
    return gradient


GENERATOR_GRADIENT = Exercise(
    file="ex5_generator_gradient",
    function="generator_gradient",
    reference=generator_gradient_by_autograd,
    cases=(
        Case({"d": vector(0)}, "an undecided discriminator: -1/2; a larger D lowers the loss"),
        Case({"d": vector(-5)}, "rejected images have the largest gradient"),
        Case({"d": vector(0, 0)}, "the loss is a mean over the batch"),
        Case({"d": vector(1000, -1000)}, "e^1000 overflows: use the sigmoid"),
    ),
    sample=lambda generator, size: {"d": integers(generator, size)},
    hint="d log(1 + e^-D) / dD = -e^-D / (1 + e^-D). Write this with a sigmoid.",
    mistakes={
        "this is the gradient of the saturating loss, which is small for rejected images": lambda d: (
            -torch.sigmoid(d) / len(d)
        ),
        "the sign is wrong: the generator wants larger D": lambda d: torch.sigmoid(-d) / len(d),
        "the loss is a mean over the batch": lambda d: -torch.sigmoid(-d),
        "e^-D overflows: use the sigmoid": lambda d: -(-d).exp() / (1 + (-d).exp()) / len(d),
    },
)

# 6: Fréchet distance


def frechet_by_matrices(mean_a: Tensor, variance_a: Tensor, mean_b: Tensor, variance_b: Tensor) -> Tensor:
    """Expected distance with the eigenvalues of the product of the covariances."""
    product = torch.diag(variance_a) @ torch.diag(variance_b)
    roots = torch.linalg.eigvalsh(product).clamp_min(0).sqrt()
    return (mean_a - mean_b).square().sum() + variance_a.sum() + variance_b.sum() - 2 * roots.sum()


def gaussians(mean_a: list, variance_a: list, mean_b: list, variance_b: list) -> Arguments:
    """Arguments of the distance."""
    values = {"mean_a": mean_a, "variance_a": variance_a, "mean_b": mean_b, "variance_b": variance_b}
    return {name: vector(*value) for name, value in values.items()}


FRECHET_DISTANCE = Exercise(
    file="ex6_frechet_distance",
    function="frechet_distance",
    reference=frechet_by_matrices,
    cases=(
        Case(gaussians([0], [1], [0], [1]), "equal Gaussians"),
        Case(gaussians([0], [1], [3], [1]), "the squared distance of the means"),
        Case(gaussians([0], [1], [0], [9]), "(1 - 3)^2 = 4"),
        Case(gaussians([0, 0], [1, 4], [0, 0], [4, 1]), "the sum over two features"),
        Case(gaussians([1], [0], [0], [4]), "a variance of 0"),
    ),
    sample=lambda generator, size: {
        "mean_a": integers(generator, size),
        "variance_a": integers(generator, size, low=0),
        "mean_b": integers(generator, size),
        "variance_b": integers(generator, size, low=0),
    },
    hint="The trace is the sum of the elements v_a + v_b - 2 sqrt(v_a v_b). This is a square.",
    mistakes={
        "the standard deviations are compared, not the variances": lambda mean_a, variance_a, mean_b, variance_b: (
            (mean_a - mean_b).square().sum() + (variance_a - variance_b).square().sum()
        ),
        "this is d, not d^2": lambda mean_a, variance_a, mean_b, variance_b: frechet_by_matrices(
            mean_a, variance_a, mean_b, variance_b
        ).sqrt(),
        "the variances differ, too": lambda mean_a, variance_a, mean_b, variance_b: (  # noqa: ARG005
            (mean_a - mean_b).square().sum()
        ),
        "the features are added, not averaged": lambda mean_a, variance_a, mean_b, variance_b: (
            frechet_by_matrices(mean_a, variance_a, mean_b, variance_b) / len(mean_a)
        ),
    },
)

EXERCISES = (
    *(KL_DIVERGENCE, REPARAMETERISATION, LIKELIHOOD, IMPORTANCE_WEIGHTS, GENERATOR_GRADIENT, FRECHET_DISTANCE),
)
"""Exercises of the chapter in order."""
