"""Boltzmann machines whose units come in two layers: energy, conditionals, Gibbs sampling, contrastive divergence.

A restricted Boltzmann machine gives every pair of binary vectors, visible v and hidden h, a probability by its energy:

    E(v, h) = -v W h - b v - c h          P(v, h) = exp(-E(v, h)) / Z

Z sums exp(-E) over all of them and is out of reach. But no two units of one layer are joined, so each layer is
independent given the other, and a whole layer is sampled at once:

    p(h_j = 1 | v) = sigmoid(c_j + v W_j)          p(v_i = 1 | h) = sigmoid(b_i + W_i h)

Sources: Hinton (2010), A Practical Guide to Training Restricted Boltzmann Machines; Tieleman (2008), Training
Restricted Boltzmann Machines using Approximations to the Likelihood Gradient; Melchior, Fischer & Wiskott (2016), How
to Center Deep Boltzmann Machines.

Dimensions: B batch, C chains, V visible units, H hidden units.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CENTRE_RATE = 0.01
"""How fast the centres follow the mean activities: they look back over about a hundred steps."""


class RBM(nn.Module):
    """A restricted Boltzmann machine of binary units; its gradient is written out below, so autograd stays away."""

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor

    def __init__(self, visible: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("weight", 0.01 * torch.randn(visible, hidden))  # Hinton (2010), section 8
        self.register_buffer("visible_bias", torch.zeros(visible))
        self.register_buffer("hidden_bias", torch.zeros(hidden))

    def hidden_probability(self, v: Tensor) -> Tensor:
        """(B, V) visible states -> (B, H) p(h = 1 | v)"""
        return torch.addmm(self.hidden_bias, v, self.weight).sigmoid_()

    def visible_probability(self, h: Tensor) -> Tensor:
        """(B, H) hidden states -> (B, V) p(v = 1 | h)"""
        return torch.addmm(self.visible_bias, h, self.weight.T).sigmoid_()

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """(B, V), (B, H) -> (B,) E(v, h) = -v W h - b v - c h"""
        return -((v @ self.weight) * h).sum(1) - v @ self.visible_bias - h @ self.hidden_bias

    def free_energy(self, v: Tensor) -> Tensor:
        """(B, V) visible states -> (B,) F(v) = -b v - sum_j log(1 + exp(c_j + v W_j))

        exp(-F(v)) is exp(-E(v, h)) summed over all h, so that P(v) = exp(-F(v)) / Z.
        """
        return -(v @ self.visible_bias) - F.softplus(torch.addmm(self.hidden_bias, v, self.weight)).sum(1)


def sample(probability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw binary states of the same shape and type: 1 with that probability, else 0.

    The dice have 24 bits whatever the type: bfloat16's own would be too coarse for rare events.
    """
    dice = torch.rand(probability.shape, device=probability.device, generator=generator)
    if probability.dtype == torch.float32:
        return torch.lt(dice, probability, out=dice)
    return (dice < probability).to(probability.dtype)


def gibbs(rbm: RBM, q: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Let chains run for so many steps: (C, H) p(h | v) at the start -> (C, V) v and (C, H) p(h | v) at the end.

    A step draws h ~ q, then v ~ p(v | h), and takes q = p(h | v). The last q stays a probability: it is the mean of the
    h that could be drawn, and statistics from it have less noise (Hinton 2010, section 3).
    """
    assert steps >= 1, "without a step there is no v"
    for _ in range(steps):
        v = sample(rbm.visible_probability(sample(q)))
        q = rbm.hidden_probability(v)
    return v, q  # pyright: ignore[reportPossiblyUnbound]


def upwards(stack: list[RBM], v: Tensor) -> Tensor:
    """(B, V) visible states of a stack -> (B, H) sampled states of the layer above its last machine"""
    for rbm in stack:
        v = sample(rbm.hidden_probability(v))
    return v


def downwards(stack: list[RBM], h: Tensor) -> Tensor:
    """(B, H) states of the layer above the last machine -> (B, V) p(v | h) of the first one's visible units"""
    for rbm in reversed(stack[1:]):
        h = sample(rbm.visible_probability(h))
    return stack[0].visible_probability(h)


class Gradient(NamedTuple):
    """The slope of the log-likelihood in each part of a machine, in the order of the machine's buffers."""

    weight: Tensor
    """(V, H)"""
    visible: Tensor
    """(V,)"""
    hidden: Tensor
    """(H,)"""


def difference(v0: Tensor, q0: Tensor, v: Tensor, q: Tensor) -> Gradient:
    """Compare data (B, V) and their p(h | v) (B, H) with samples of the model (C, V) and theirs (C, H).

    d log P(v) / dW = <v h>_data - <v h>_model, and without the other layer for the biases (Hinton 2010, equation 5).
    Both products of the weights are one: the rows of the samples take part with a minus sign.
    """
    whole = torch.promote_types(v.dtype, torch.float32)
    rows = torch.cat([q0 / len(v0), q / -len(v)])
    return Gradient(
        weight=(torch.cat([v0, v]).T @ rows).to(whole),
        visible=v0.mean(0, dtype=whole) - v.mean(0, dtype=whole),
        hidden=rows.sum(0, dtype=whole),
    )


def centred_difference(v0: Tensor, q0: Tensor, v: Tensor, q: Tensor, mu: Tensor, lam: Tensor) -> Gradient:
    """Compare data with samples, all units measured from centres mu (V,) and lambda (H,).

    With E = -(v - mu) W (h - lambda) - b v - c h the weights need not learn again what the biases already say, and a
    machine learns white on black as well as black on white. Written for the plain energy, where <.> is the difference
    of data and samples (Melchior et al. 2016):

        dW = <(v - mu) (h - lambda)>          db = <v> - dW lambda          dc = <h> - mu dW
    """
    narrow_mu, narrow_lam = mu.to(v.dtype), lam.to(v.dtype)
    weight, visible, hidden = difference(v0 - narrow_mu, q0 - narrow_lam, v - narrow_mu, q - narrow_lam)
    return Gradient(weight, visible - weight @ lam, hidden - mu @ weight)


class ContrastiveDivergence(nn.Module):
    """The rule by which a machine learns, and what the rule remembers from step to step: all of it is checkpointed.

    The samples of the model are its own data after a few Gibbs steps (contrastive divergence, CD-k), or chains of
    their own that go on from step to step and never return to the data (persistent, PCD; Tieleman 2008).
    """

    visible_centre: Tensor
    hidden_centre: Tensor
    chains: Tensor
    """(C, H) p(h | v) of the persistent chains; none for CD-k."""

    def __init__(
        self,
        rbm: RBM,
        *,
        chains: int = 0,
        steps: int = 1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        sparsity_target: float | None = None,
        sparsity_cost: float = 0.0,
        centre: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        visible, hidden = rbm.weight.shape
        self.steps, self.momentum, self.weight_decay, self.centre = steps, momentum, weight_decay, centre
        self.sparsity_target, self.sparsity_cost = sparsity_target, sparsity_cost
        self.sampler = RBM(visible, hidden).to(rbm.weight.device, dtype)
        self.velocity = RBM(visible, hidden).to(rbm.weight)
        for speed in self.velocity.buffers():
            speed.zero_()
        self.register_buffer("visible_centre", rbm.visible_bias.sigmoid())
        self.register_buffer("hidden_centre", rbm.hidden_bias.sigmoid())
        self.register_buffer("chains", torch.full((chains, hidden), 0.5).to(rbm.weight.device, dtype))

    def step(self, rbm: RBM, v0: Tensor, learning_rate: float) -> Tensor:
        """Take one step uphill on (B, V) data; return how far the mean images of data and samples are apart, squared.

        velocity = momentum velocity + learning_rate (gradient - weight_decay W), and the machine moves by it.
        """
        for narrow, whole in zip(self.sampler.buffers(), rbm.buffers(), strict=True):
            narrow.copy_(whole)
        states = v0.to(self.sampler.weight.dtype)
        q0 = self.sampler.hidden_probability(states)
        v, q = gibbs(self.sampler, self.chains if len(self.chains) else q0, self.steps)
        if len(self.chains):
            self.chains.copy_(q)
        visible_mean, hidden_mean = v0.mean(0), q0.mean(0, dtype=rbm.weight.dtype)
        self.visible_centre.lerp_(visible_mean, CENTRE_RATE)
        self.hidden_centre.lerp_(hidden_mean, CENTRE_RATE)
        if self.centre:
            gradient = centred_difference(states, q0, v, q, self.visible_centre, self.hidden_centre)
        else:
            gradient = difference(states, q0, v, q)
        if self.sparsity_target is not None:
            # The slope of the cross-entropy of target and activity in each unit's input (Hinton 2010, section 11).
            lacking = self.sparsity_target - self.hidden_centre
            gradient.hidden.add_(lacking, alpha=self.sparsity_cost)
            gradient.weight.addr_(visible_mean, lacking, alpha=self.sparsity_cost)
        if self.weight_decay:
            gradient.weight.add_(rbm.weight, alpha=-self.weight_decay)
        for speed, slope, value in zip(self.velocity.buffers(), gradient, rbm.buffers(), strict=True):
            value.add_(speed.mul_(self.momentum).add_(slope, alpha=learning_rate))
        return (visible_mean - v.mean(0, dtype=visible_mean.dtype)).square().mean()
