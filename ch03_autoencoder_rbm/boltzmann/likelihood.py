"""Log-likelihood of an RBM, exact for small layers or by annealed importance sampling (AIS); pseudo-likelihood.

    log P(v) = -F(v) - log Z          Z = sum_v exp(-F(v))

The free energy F needs one matrix product, but Z is a sum over 2^V images. If one layer has at most 20 units, Z is
computed exactly. AIS estimates it through a sequence of distributions from a base RBM without weights, whose Z is
known, to the given RBM.

Sources: Salakhutdinov & Murray (2008), On the Quantitative Analysis of Deep Belief Networks; Besag (1975), Statistical
Analysis of Non-Lattice Data.

Dimensions: B batch, N images, C chains, V visible units, H hidden units.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_autoencoder_rbm.boltzmann.gibbs import RBM, sample
from common.config import require
from common.device import widest_float
from common.progress import track

ENUMERABLE = 20
"""Maximum number of units whose states are enumerated (about a million states)."""

FLIPS = 20_000
"""Approximate number of random pixels in an estimate of the pseudo-likelihood; at most 20 per image."""


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z."""

    value: float
    """log Z in nats"""
    error: float
    """Standard error of log Z in nats, computed from the importance weights."""
    effective_chains: float
    """Effective sample size of the importance weights. If it is near 1, the estimate depends on a single chain."""


def exact_log_partition(rbm: RBM) -> float:
    """Compute log Z by enumerating the states of the smaller layer and summing over the other in closed form.

    log Z = log sum_h exp(b h) prod_i (1 + exp(a_i + W_i h)), or the same with the layers exchanged. Raises ValueError
    if both layers have more than 20 units.
    """
    W, a, b = (tensor.cpu().double() for tensor in (rbm.weight, rbm.visible_bias, rbm.hidden_bias))
    if len(a) < len(b):
        W, a, b = W.T, b, a
    units = len(b)
    require(units <= ENUMERABLE, f"an exact Z needs a layer of at most {ENUMERABLE} units", units)
    parts = []
    for numbers in torch.arange(2**units).split(2**12):
        states = (numbers[:, None] >> torch.arange(units) & 1).double()
        parts.append(states @ b + F.softplus(torch.addmm(a, states, W.T)).sum(1))
    return float(torch.cat(parts).logsumexp(0))


def base_rates(images: Tensor) -> Tensor:
    """(N, V) images in [0, 1] -> (V,) visible biases of an RBM without weights that reproduces the mean image

    Five images with pixel probability 0.5 are added, so that the bias of a pixel that is always or never 1 is finite.
    """
    on = images.float().mean(0).mul(len(images)).add(2.5).div(len(images) + 5)
    return on.logit()


def inverse_temperatures(count: int) -> list[float]:
    """Return beta_0 = 0 to beta_K = 1, denser near 1: beta_k = 1 - (1 - k / K)^2.

    Salakhutdinov & Murray (2008) use three intervals of uniform spacing, even denser near 1. With 2,000 temperatures,
    that gave more effective chains for 20 hidden units and fewer for 500.
    """
    return [1 - (1 - k / count) ** 2 for k in range(count + 1)]


def annealed_log_partition(rbm: RBM, base: Tensor, temperatures: int = 3_000, chains: int = 500) -> LogPartition:
    """Estimate log Z by annealed importance sampling (Salakhutdinov & Murray 2008, section 3).

    The intermediate distributions between the base model (visible biases `base`, no weights, beta = 0) and the RBM
    (beta = 1) have the unnormalised probabilities

        p_beta(v) = exp((1 - beta) base v + beta a v) prod_j (1 + exp(beta (b_j + v W_j)))

    A chain starts at a sample v_1 of the base model and takes one Gibbs step at each beta_k. Its importance weight is
    prod_k p_k(v_k) / p_(k-1)(v_k). The mean weight estimates Z / Z_base, where Z_base = 2^H prod_i (1 + exp(base_i)).
    """
    W, a, b = rbm.weight, rbm.visible_bias, rbm.hidden_bias
    v = sample(base.sigmoid().expand(chains, -1))
    log_weight = torch.zeros(chains, dtype=widest_float(v.device), device=v.device)
    for previous, beta in track(pairwise(inverse_temperatures(temperatures)), "annealing", temperatures):
        x = torch.addmm(b, v, W)
        log_weight += (beta - previous) * (v @ (a - base)) + (F.softplus(beta * x) - F.softplus(previous * x)).sum(1)
        h = sample(x.mul_(beta).sigmoid_())
        v = sample(torch.addmm((1 - beta) * base + beta * a, h, W.T, alpha=beta).sigmoid_())
    log_z_base = W.shape[1] * math.log(2) + float(F.softplus(base.cpu().double()).sum())
    weight = (log_weight - log_weight.max()).exp()
    return LogPartition(
        value=log_z_base + float(log_weight.logsumexp(0)) - math.log(chains),
        error=float(weight.std() / weight.mean()) / math.sqrt(chains),
        effective_chains=float(weight.sum().square() / weight.square().sum()),
    )


def log_likelihood(rbm: RBM, images: Tensor, log_z: float) -> float:
    """(N, V) binary images -> mean log P(v) in nats per image"""
    return -mean_free_energy(rbm, images) - log_z


def mean_free_energy(rbm: RBM, images: Tensor) -> float:
    """(N, V) binary images -> mean F(v)"""
    return float(torch.cat([rbm.free_energy(part) for part in images.split(2_000)]).cpu().double().mean())


def pseudo_likelihood(rbm: RBM, images: Tensor) -> float:
    """Estimate the mean log pseudo-likelihood of (N, V) binary images in nats: sum_i log P(v_i | all other pixels).

    P(v_i | others) = sigmoid(F(v with pixel i flipped) - F(v)) does not depend on Z. The estimate is V times the mean
    over random pixels. Each call uses the same pixels, so values for the same images are comparable.
    """
    generator = torch.Generator().manual_seed(0)
    row = torch.arange(len(images)).repeat(min(20, math.ceil(FLIPS / len(images))))
    pixel = torch.randint(images.shape[1], row.shape, generator=generator)
    x = torch.addmm(rbm.hidden_bias, images, rbm.weight)
    total = 0.0
    for n, i in zip(row.to(x.device).split(2_000), pixel.to(x.device).split(2_000), strict=True):
        change = 1 - 2 * images[n, i]  # +1 if the flip sets the pixel to 1, -1 if it sets it to 0
        before, after = x[n], torch.addcmul(x[n], change[:, None], rbm.weight[i])
        increase = -change * rbm.visible_bias[i] + (F.softplus(before) - F.softplus(after)).sum(1)  # of the free energy
        total += float(F.logsigmoid(increase).cpu().double().sum())
    return images.shape[1] * total / len(row)
