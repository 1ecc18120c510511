"""How well a variational autoencoder explains images it has not seen.

    ELBO = E_q[log p(x | z)] - KL(q(z | x) || p(z))                      <= log p(x)
    L_k  = E[log (1/k) sum_j w_j],   w_j = p(x | z_j) p(z_j) / q(z_j | x)    ELBO = L_1 <= L_50 <= L_5000 <= log p(x)

The importance-weighted bound L_k grows with k and tends to log p(x) (Burda, Grosse & Salakhutdinov 2016, theorem 1).
All of it in nats an image, and in a few thousand decoded samples of memory, whatever k.

Dimensions: N images, P pixels (784), K classes, Z latent units, G groups of 50 samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ch08_vae.networks import VAE, kl_divergence, log_bernoulli

GROUP = 50
"""Samples of the bound that is taken over all images."""

ROWS = 2_000
"""Samples that are decoded at once."""

ACTIVE = 0.01
"""A unit is active where the variance of its mean over the images is above this (Burda et al., section 5.2)."""


def chunks(x: Tensor, classes: Tensor | None, size: int = ROWS) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Cut (N, ...) rows, and their (N, K) classes if they are told, into parts of so many rows."""
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
def group_bounds(model: VAE, x: Tensor, classes: Tensor | None, groups: int) -> tuple[Tensor, Tensor]:
    """(N, P) images -> (N,) mean of log w, an estimate of the ELBO; (N, G) log-mean of each 50 weights: L_50"""
    at_once = ROWS // GROUP
    elbos, bounds = [], []
    for part, condition in chunks(x, classes, max(1, at_once // groups)):
        counts = [GROUP * min(at_once, groups - done) for done in range(0, groups, at_once)]
        log_w = [log_weights(model, part, condition, count) for count in counts]
        grouped = torch.cat(log_w, dim=1).double().unflatten(1, (groups, GROUP))
        elbos.append(grouped.mean((1, 2)))
        bounds.append(grouped.logsumexp(2) - math.log(GROUP))
    return torch.cat(elbos), torch.cat(bounds)


@dataclass(frozen=True)
class Likelihood:
    """What is known of log p(x), averaged over the images."""

    elbo: float
    """L_1, over all images."""
    bound_50: float
    """L_50, over all images."""
    log_likelihood: float
    """L_k for the largest k: L_50 over all images, and what some of them gain between 50 and k."""
    log_likelihood_error: float
    """Standard error of that gain, from taking some of the images instead of all."""


def likelihood(model: VAE, x: Tensor, classes: Tensor | None, *, samples: int, images: int) -> Likelihood:
    """Bound the mean log-likelihood of (N, P) images, with so many samples for the first so many of them.

    log p(x) differs by 25 nats from image to image, but the gain from 50 samples to 5,000 by less than one: the gain
    is known well from a few hundred images. Both bounds of an image use the same samples.
    """
    some = slice(0, images)
    elbo, bounds = group_bounds(model, x[some], None if classes is None else classes[some], samples // GROUP)
    bound_50 = bounds.mean(1)
    gain = bounds.logsumexp(1) - math.log(bounds.shape[1]) - bound_50
    error = 0.0
    if len(gain) < len(x):
        elbo, bounds = group_bounds(model, x, classes, 1)
        bound_50 = bounds.squeeze(1)
        error = float(gain.std()) / math.sqrt(len(gain))
    return Likelihood(float(elbo.mean()), float(bound_50.mean()), float(bound_50.mean() + gain.mean()), error)


@torch.inference_mode()
def posterior(model: VAE, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(N, P) images -> (N, Z) mu and (N, Z) log sigma^2"""
    parts = [model.encode(part, condition) for part, condition in chunks(x, classes)]
    mu, logvar = (torch.cat(part) for part in zip(*parts, strict=True))
    return mu, logvar


@torch.inference_mode()
def decoded(model: VAE, z: Tensor, classes: Tensor | None = None) -> Tensor:
    """(N, Z), (N, K) -> (N, P) probability of each pixel being on, on the CPU"""
    return torch.cat([model.decode(part, condition).sigmoid().cpu() for part, condition in chunks(z, classes)])


def active_units(mu: Tensor) -> int:
    """(N, Z) posterior means -> how many units say something about the image"""
    return int((mu.var(0, correction=0) > ACTIVE).sum())


@torch.inference_mode()
def measure(model: VAE, x: Tensor, classes: Tensor | None = None) -> dict[str, float]:
    """ELBO of (N, P) images by one sample each, and its two parts: what is drawn right, and what saying it costs."""
    reconstruction, kl = 0.0, 0.0
    for part, condition in chunks(x, classes):
        logits, mu, logvar = model(part, condition)
        reconstruction += float(log_bernoulli(logits, part).double().sum())
        kl += float(kl_divergence(mu, logvar).double().sum())
    reconstruction, kl = reconstruction / len(x), kl / len(x)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
