"""The restricted Boltzmann machine (RBM): energy, conditionals, Gibbs sampling, contrastive divergence.

An RBM assigns a probability to every pair of binary visible units v and binary hidden units h by an energy:

    E(v, h) = -a v - b h - v W h          P(v, h) = exp(-E(v, h)) / Z

a are the visible biases, b the hidden biases, W the weights. Z is the sum of exp(-E) over all states, which is too
large to compute. There are no connections within a layer, so the units of one layer are conditionally independent
given the other layer. Gibbs sampling therefore samples a whole layer at once:

    p(h_j = 1 | v) = sigmoid(b_j + sum_i v_i W_ij)          p(v_i = 1 | h) = sigmoid(a_i + sum_j h_j W_ij)

Symbols follow Hinton (2010), A Practical Guide to Training Restricted Boltzmann Machines. Persistent chains: Tieleman
(2008), Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient.

Dimensions: B batch, C chains, V visible units, H hidden units.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CENTRE_RATE = 0.01
"""Weight of the current batch in the running means of the units (their centres)."""


class RBM(nn.Module):
    """RBM with binary units. The gradient is computed by hand, so the parameters are buffers without autograd."""

    weight: Tensor
    """W (V, H)"""
    visible_bias: Tensor
    """a (V,)"""
    hidden_bias: Tensor
    """b (H,)"""

    def __init__(self, visible: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("weight", 0.01 * torch.randn(visible, hidden))  # Hinton (2010), section 8
        self.register_buffer("visible_bias", torch.zeros(visible))
        self.register_buffer("hidden_bias", torch.zeros(hidden))

    def hidden_probability(self, v: Tensor) -> Tensor:
        """(B, V) visible states -> (B, H) p(h = 1 | v) = sigmoid(b + v W)"""
        return torch.addmm(self.hidden_bias, v, self.weight).sigmoid_()

    def visible_probability(self, h: Tensor) -> Tensor:
        """(B, H) hidden states -> (B, V) p(v = 1 | h) = sigmoid(a + h W^T)"""
        return torch.addmm(self.visible_bias, h, self.weight.T).sigmoid_()

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """(B, V), (B, H) -> (B,) E(v, h) = -a v - b h - v W h"""
        return -v @ self.visible_bias - h @ self.hidden_bias - ((v @ self.weight) * h).sum(1)

    def free_energy(self, v: Tensor) -> Tensor:
        """(B, V) visible states -> (B,) F(v) = -a v - sum_j log(1 + exp(b_j + v W_j))

        exp(-F(v)) is the sum of exp(-E(v, h)) over all h, so P(v) = exp(-F(v)) / Z.
        """
        return -(v @ self.visible_bias) - F.softplus(torch.addmm(self.hidden_bias, v, self.weight)).sum(1)


def sample(probability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sample binary states of the same shape and type: 1 with the given probability, else 0.

    The uniform noise is float32 for all types, because bfloat16 noise is too coarse for small probabilities.
    """
    noise = torch.rand(probability.shape, device=probability.device, generator=generator)
    if probability.dtype == torch.float32:
        return torch.lt(noise, probability, out=noise)
    return (noise < probability).to(probability.dtype)


def gibbs(rbm: RBM, q: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Run Gibbs chains: (C, H) initial p(h | v) -> (C, V) samples v and (C, H) p(h | v) after the given steps.

    Each step samples h from q, then v from p(v | h), and sets q = p(h | v). The last q is not sampled, because
    probabilities give statistics with less noise (Hinton 2010, section 3).
    """
    assert steps >= 1, "at least one step is needed to sample v"
    for _ in range(steps):
        v = sample(rbm.visible_probability(sample(q)))
        q = rbm.hidden_probability(v)
    return v, q  # pyright: ignore[reportPossiblyUnbound]


def upwards(stack: list[RBM], v: Tensor) -> Tensor:
    """(B, V) visible states of the first RBM -> (B, H) sampled hidden states of the last RBM of a stack"""
    for rbm in stack:
        v = sample(rbm.hidden_probability(v))
    return v


def downwards(stack: list[RBM], h: Tensor) -> Tensor:
    """(B, H) hidden states of the last RBM of a stack -> (B, V) p(v | h) of the first RBM"""
    for rbm in reversed(stack[1:]):
        h = sample(rbm.visible_probability(h))
    return stack[0].visible_probability(h)


class Gradient(NamedTuple):
    """Gradient of the mean log-likelihood, in the order of the RBM's buffers."""

    weight: Tensor
    """(V, H)"""
    visible_bias: Tensor
    """(V,)"""
    hidden_bias: Tensor
    """(H,)"""


def likelihood_gradient(v0: Tensor, q0: Tensor, v: Tensor, q: Tensor) -> Gradient:
    """Estimate the gradient from data v0 (B, V) and chains v (C, V), with q0 = p(h | v0) (B, H), q = p(h | v) (C, H).

    <.>_0 is the mean over the data, <.> the mean over the chains (Hinton 2010, equation 5):

        dW = <v h>_0 - <v h>          da = <v>_0 - <v>          db = <h>_0 - <h>

    The result is float32 if the states are bfloat16.
    """
    B, C, dtype = len(v0), len(v), torch.promote_types(v.dtype, torch.float32)
    positive = v0.T @ (q0 / B)
    negative = v.T @ (q / C)
    return Gradient(
        weight=positive.sub_(negative).to(dtype),
        visible_bias=v0.mean(0, dtype=dtype) - v.mean(0, dtype=dtype),
        hidden_bias=q0.mean(0, dtype=dtype) - q.mean(0, dtype=dtype),
    )


def centred_gradient(v0: Tensor, q0: Tensor, v: Tensor, q: Tensor, mu: Tensor, lambda_: Tensor) -> Gradient:
    """Estimate the centred gradient, in which the centres mu (V,) and lambda (H,) are subtracted from the units.

    The centred RBM has the energy E(v, h) = -a' v - b' h - (v - mu) W (h - lambda), whose optimisation is better
    conditioned (Montavon & Mueller 2012, Deep Boltzmann Machines and the Centering Trick). Its gradient, converted to
    the biases a and b of the plain energy (Melchior, Fischer & Wiskott 2016, How to Center Deep Boltzmann Machines), is

        dW = <(v - mu) (h - lambda)>_0 - <(v - mu) (h - lambda)>
        da = <v>_0 - <v> - dW lambda          db = <h>_0 - <h> - mu dW
    """
    B, C, dtype = len(v0), len(v), torch.promote_types(v.dtype, torch.float32)
    mu, lambda_ = mu.to(v.dtype), lambda_.to(v.dtype)
    positive = (v0 - mu).T @ ((q0 - lambda_) / B)
    negative = (v - mu).T @ ((q - lambda_) / C)
    dW = positive.sub_(negative).to(dtype)
    return Gradient(
        weight=dW,
        visible_bias=v0.mean(0, dtype=dtype) - v.mean(0, dtype=dtype) - dW @ lambda_.to(dtype),
        hidden_bias=q0.mean(0, dtype=dtype) - q.mean(0, dtype=dtype) - mu.to(dtype) @ dW,
    )


class ContrastiveDivergence(nn.Module):
    """Contrastive divergence and its state: velocities, running means and persistent chains, all of them checkpointed.

    CD-k (Hinton 2002) starts the chains at the batch in every step. Persistent CD (Tieleman 2008) continues the chains
    of the previous step.
    """

    visible_centre: Tensor
    """mu (V,), running mean of the data"""
    hidden_centre: Tensor
    """lambda (H,), running mean of p(h | data)"""
    chains: Tensor
    """(C, H) p(h | v) of the persistent chains; C = 0 for CD-k"""

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
        self.sampler = RBM(visible, hidden).to(rbm.weight.device, dtype)  # copy of the RBM in the sampling precision
        self.velocity = RBM(visible, hidden).to(rbm.weight)
        for velocity in self.velocity.buffers():
            velocity.zero_()
        self.register_buffer("visible_centre", rbm.visible_bias.sigmoid())
        self.register_buffer("hidden_centre", rbm.hidden_bias.sigmoid())
        self.register_buffer("chains", torch.full((chains, hidden), 0.5).to(rbm.weight.device, dtype))

    def step(self, rbm: RBM, v0: Tensor, learning_rate: float) -> Tensor:
        """Update the RBM with a batch (B, V); return the squared error between the mean images of chains and batch.

        velocity = momentum velocity + learning_rate (gradient - weight_decay W)          W = W + velocity
        """
        for copy, parameter in zip(self.sampler.buffers(), rbm.buffers(), strict=True):
            copy.copy_(parameter)
        data_mean = v0.mean(0)
        v0 = v0.to(self.sampler.weight.dtype)
        q0 = self.sampler.hidden_probability(v0)
        persistent = len(self.chains) > 0
        v, q = gibbs(self.sampler, self.chains if persistent else q0, self.steps)
        if persistent:
            self.chains.copy_(q)
        self.visible_centre.lerp_(data_mean, CENTRE_RATE)
        self.hidden_centre.lerp_(q0.mean(0, dtype=rbm.weight.dtype), CENTRE_RATE)
        if self.centre:
            gradient = centred_gradient(v0, q0, v, q, self.visible_centre, self.hidden_centre)
        else:
            gradient = likelihood_gradient(v0, q0, v, q)
        if self.sparsity_target is not None:
            # Gradient of the cross-entropy between target and mean activity (Hinton 2010, section 11).
            deficit = self.sparsity_target - self.hidden_centre
            gradient.hidden_bias.add_(deficit, alpha=self.sparsity_cost)
            gradient.weight.addr_(data_mean, deficit, alpha=self.sparsity_cost)
        if self.weight_decay:
            gradient.weight.add_(rbm.weight, alpha=-self.weight_decay)
        for velocity, slope, parameter in zip(self.velocity.buffers(), gradient, rbm.buffers(), strict=True):
            velocity.mul_(self.momentum).add_(slope, alpha=learning_rate)
            parameter.add_(velocity)
        return (data_mean - v.mean(0, dtype=data_mean.dtype)).square().mean()
