"""How probable a Boltzmann machine finds data: exactly where it is small, by annealed importance sampling where not.

    log P(v) = -F(v) - log Z          Z = sum_v exp(-F(v))

F is one matrix product away; Z sums over 2^V images. With 20 units or fewer on one side it can be summed. Otherwise it
is estimated: from a machine A without weights, whose Z is known, through machines in between, to the one in question.

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

ENUMERABLE = 20
"""Units of the smaller side whose states can be listed: about a million."""

FLIPS = 20_000
"""Pixels that a pseudo-likelihood is estimated from, spread evenly over the images; but no more than 20 of each."""


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z."""

    value: float
    """log Z in nats"""
    error: float
    """Standard error of the value in nats, from how much the chains' weights differ."""
    effective_chains: float
    """How many equally weighted chains would be as good: near 1, the estimate hangs on a single one."""


def exact_log_partition(rbm: RBM) -> float:
    """Sum exp(-E) over every state: those of the smaller layer are listed, the other layer is summed in closed form.

    log Z = log sum_h exp(c h) prod_i (1 + exp(b_i + W_i h)), or the same with the layers exchanged. Raises ValueError
    where both layers have more than 20 units.
    """
    weight, b, c = (tensor.cpu().double() for tensor in (rbm.weight, rbm.visible_bias, rbm.hidden_bias))
    if len(b) < len(c):
        weight, b, c = weight.T, c, b
    units = len(c)
    require(units <= ENUMERABLE, f"an exact Z needs a layer of at most {ENUMERABLE} units", units)
    parts = []
    for numbers in torch.arange(2**units).split(2**12):
        states = (numbers[:, None] >> torch.arange(units) & 1).double()
        parts.append(states @ c + F.softplus(torch.addmm(b, states, weight.T)).sum(1))
    return float(torch.cat(parts).logsumexp(0))


def base_rates(images: Tensor) -> Tensor:
    """(N, V) images in [0, 1] -> (V,) biases of machine A, which has each pixel on as often as the images, by itself.

    Five images of white noise are added, so that a pixel that is never on keeps a finite bias.
    """
    on = images.float().mean(0).mul(len(images)).add(2.5).div(len(images) + 5)
    return on.logit()


def annealed_log_partition(rbm: RBM, base: Tensor, temperatures: int = 3_000, chains: int = 500) -> LogPartition:
    """Estimate log Z by annealed importance sampling (Salakhutdinov & Murray 2008, section 3).

    Between machine A (biases `base`, no weights, beta = 0) and ours (beta = 1) lie machines with unnormalised
    probabilities

        p_beta(v) = exp((1 - beta) base v + beta b v) prod_j (1 + exp(beta (c_j + v W_j)))

    A chain starts at a sample v_1 of A and makes a Gibbs step at every beta_k; its weight is
    prod_k p_k(v_k) / p_(k-1)(v_k), whose mean over the chains is Z / Z_A, with Z_A = 2^H prod_i (1 + exp(base_i)).
    """
    W, b, c = rbm.weight, rbm.visible_bias, rbm.hidden_bias
    v = sample(base.sigmoid().expand(chains, -1))
    log_weight = torch.zeros(chains, dtype=widest_float(v.device), device=v.device)
    betas = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64).tolist()
    for previous, beta in pairwise(betas):
        x = torch.addmm(c, v, W)
        gain = (beta - previous) * (v @ (b - base)) + (F.softplus(beta * x) - F.softplus(previous * x)).sum(1)
        log_weight += gain
        h = sample(x.mul_(beta).sigmoid_())
        v = sample(torch.addmm((1 - beta) * base + beta * b, h, W.T, alpha=beta).sigmoid_())
    log_z_base = W.shape[1] * math.log(2) + float(F.softplus(base.cpu().double()).sum())
    weight = (log_weight - log_weight.max()).exp()
    relative = float(weight.std() / weight.mean())
    return LogPartition(
        value=log_z_base + float(log_weight.logsumexp(0)) - math.log(chains),
        error=relative / math.sqrt(chains),
        effective_chains=float(weight.sum().square() / weight.square().sum()),
    )


def log_likelihood(rbm: RBM, images: Tensor, log_z: float) -> float:
    """(N, V) binary images -> mean log P(v) in nats an image"""
    return -mean_free_energy(rbm, images) - log_z


def mean_free_energy(rbm: RBM, images: Tensor) -> float:
    """(N, V) binary images -> mean F(v)"""
    return float(torch.cat([rbm.free_energy(part) for part in images.split(2_000)]).cpu().double().mean())


def pseudo_likelihood(rbm: RBM, images: Tensor) -> float:
    """Estimate the mean log pseudo-likelihood of (N, V) binary images in nats: sum_i log P(v_i | all other pixels).

    P(v_i | others) = sigmoid(F(v with pixel i flipped) - F(v)): Z cancels. V times the mean over random pixels, which
    are the same ones in every call, so that values of one set of images can be compared.
    """
    generator = torch.Generator().manual_seed(0)
    row = torch.arange(len(images)).repeat(min(20, math.ceil(FLIPS / len(images))))
    pixel = torch.randint(images.shape[1], row.shape, generator=generator)
    x = torch.addmm(rbm.hidden_bias, images, rbm.weight)
    total = 0.0
    for n, i in zip(row.to(x.device).split(2_000), pixel.to(x.device).split(2_000), strict=True):
        turn = 1 - 2 * images[n, i]  # +1 where the pixel goes on, -1 where it goes off
        before, after = x[n], torch.addcmul(x[n], turn[:, None], rbm.weight[i])
        rise = -turn * rbm.visible_bias[i] + (F.softplus(before) - F.softplus(after)).sum(1)  # of the free energy
        total += float(F.logsigmoid(rise).cpu().double().sum())
    return images.shape[1] * total / len(row)
