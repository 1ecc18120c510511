"""Likelihood bounds of a variational autoencoder on test images, and its active units.

    ELBO = E_q[log p(x | z)] - KL(q(z | x) || p(z))                      <= log p(x)
    L_k  = E[log (1/k) sum_j w_j],   w_j = p(x | z_j) p(z_j) / q(z_j | x)

    ELBO = L_1 <= L_5 <= L_50 <= L_5000 <= log p(x)

The importance-weighted bound L_k increases with k and converges to log p(x) (Burda, Grosse & Salakhutdinov 2016,
theorem 1). All values are in nats per image. At most 2,000 samples are decoded at once, so memory does not depend on k.

Dimensions: N images, P pixels (784), K classes, Z latent units, G groups of 50 samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ch08_vae.autoencoding.networks import VAE, kl_divergence, log_bernoulli
from common.progress import track

GROUP, PART = 50, 5
"""Numbers of importance samples per image for L_50 and L_5, the bounds that are computed for all images."""

ROWS = 2_000
"""Maximum number of samples decoded at once."""

ACTIVE = 0.01
"""A unit is active if the variance of its posterior mean over the images exceeds this (Burda et al., section 5.2)."""


def chunks(x: Tensor, classes: Tensor | None, size: int = ROWS) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Split (N, ...) rows, and their (N, K) classes if given, into parts of at most `size` rows."""
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        yield x[rows], None if classes is None else classes[rows]


def log_weights(model: VAE, x: Tensor, classes: Tensor | None, samples: int) -> Tensor:
    """(N, P) images -> (N, samples) log w = log p(x | z) + log p(z) - log q(z | x), z from the posterior"""
    mu, logvar = (part.unsqueeze(1) for part in model.encode(x, classes))  # (N, 1, Z)
    epsilon = torch.randn(len(x), samples, mu.shape[2], dtype=mu.dtype, device=mu.device)
    z = mu + (logvar / 2).exp() * epsilon
    condition = None if classes is None else classes.repeat_interleave(samples, dim=0)
    logits = model.decode(z.flatten(0, 1), condition).view(len(x), samples, -1)
    # log p(z) - log q(z | x) = (sum epsilon^2 + log sigma^2 - z^2) / 2: the constants of both Gaussians cancel
    return log_bernoulli(logits, x.unsqueeze(1)) + (epsilon.square() + logvar - z.square()).sum(2) / 2


@torch.inference_mode()
def group_bounds(model: VAE, x: Tensor, classes: Tensor | None, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N, P) images -> (N,) ELBO, the mean of log w; (N,) L_5; (N, G) log of the mean weight of 50 samples each, L_50

    L_5 is the mean over the parts of 5 samples, so all bounds use the same samples.
    """
    at_once = ROWS // GROUP
    elbos, bounds_5, bounds = [], [], []
    size = max(1, at_once // groups)
    for part, condition in track(chunks(x, classes, size), "likelihood", -(-len(x) // size)):
        counts = [GROUP * min(at_once, groups - done) for done in range(0, groups, at_once)]
        log_w = [log_weights(model, part, condition, count) for count in counts]
        grouped = torch.cat(log_w, dim=1).double().unflatten(1, (groups, GROUP))
        elbos.append(grouped.mean((1, 2)))
        bounds_5.append((grouped.unflatten(2, (-1, PART)).logsumexp(3) - math.log(PART)).mean((1, 2)))
        bounds.append(grouped.logsumexp(2) - math.log(GROUP))
    return torch.cat(elbos), torch.cat(bounds_5), torch.cat(bounds)


@dataclass(frozen=True)
class Likelihood:
    """Bounds of log p(x), averaged over the images."""

    elbo: float
    """L_1, over all images."""
    bound_5: float
    """L_5, over all images."""
    bound_50: float
    """L_50, over all images."""
    log_likelihood: float
    """L_k for the largest k: L_50 over all images plus the mean of L_k - L_50 over the first images."""
    log_likelihood_error: float
    """Standard error of that mean of L_k - L_50; 0 if all images are used."""


def likelihood(model: VAE, x: Tensor, classes: Tensor | None, *, samples: int, images: int) -> Likelihood:
    """Return bounds of the mean log-likelihood of (N, P) images, with k = `samples` for the first `images` of them.

    The standard deviation of log p(x) over images is much larger than that of the gain L_k - L_50, so a few hundred
    images are enough to estimate the mean gain. Both bounds of an image use the same samples.
    """
    some = slice(0, images)
    elbo, bound_5, bounds = group_bounds(model, x[some], None if classes is None else classes[some], samples // GROUP)
    bound_50 = bounds.mean(1)
    gain = bounds.logsumexp(1) - math.log(bounds.shape[1]) - bound_50
    error = 0.0
    if len(gain) < len(x):
        elbo, bound_5, bounds = group_bounds(model, x, classes, 1)
        bound_50 = bounds.squeeze(1)
        error = float(gain.std()) / math.sqrt(len(gain))
    elbo, bound_5, bound_50, gain = (float(each.mean()) for each in (elbo, bound_5, bound_50, gain))
    return Likelihood(elbo, bound_5, bound_50, bound_50 + gain, error)


@torch.inference_mode()
def posterior(model: VAE, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(N, P) images -> (N, Z) mu and (N, Z) log sigma^2"""
    parts = [model.encode(part, condition) for part, condition in chunks(x, classes)]
    mu, logvar = (torch.cat(part) for part in zip(*parts, strict=True))
    return mu, logvar


@torch.inference_mode()
def decoded(model: VAE, z: Tensor, classes: Tensor | None = None) -> Tensor:
    """(N, Z), (N, K) -> (N, P) probabilities that the pixels are 1, on the CPU"""
    return torch.cat([model.decode(part, condition).sigmoid().cpu() for part, condition in chunks(z, classes)])


def active_units(mu: Tensor) -> int:
    """(N, Z) posterior means -> number of active units"""
    return int((mu.var(0, correction=0) > ACTIVE).sum())


@torch.inference_mode()
def measure(model: VAE, x: Tensor, classes: Tensor | None = None) -> dict[str, float]:
    """Return the ELBO of (N, P) images, from one sample per image, and its two terms."""
    reconstruction, kl = 0.0, 0.0
    for part, condition in chunks(x, classes):
        logits, mu, logvar = model(part, condition)
        reconstruction += float(log_bernoulli(logits, part).double().sum())
        kl += float(kl_divergence(mu, logvar).double().sum())
    reconstruction, kl = reconstruction / len(x), kl / len(x)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
