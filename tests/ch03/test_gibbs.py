"""RBM: conditionals, sampling and contrastive divergence compared with enumeration, slow loops and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
import torch

from ch03_autoencoder_rbm.boltzmann import gibbs as module
from ch03_autoencoder_rbm.boltzmann.gibbs import (
    CENTRE_RATE,
    RBM,
    ContrastiveDivergence,
    centred_gradient,
    gibbs,
    likelihood_gradient,
    sample,
)
from ch03_autoencoder_rbm.boltzmann.rbm import make_rbm as make_digits_rbm
from conftest import train_until


def make_rbm(visible, hidden, scale=1.0, dtype=torch.float64):
    torch.manual_seed(3)
    rbm = RBM(visible, hidden).to(dtype)
    for buffer in rbm.buffers():
        buffer.normal_(0, scale)
    return rbm


def every_state(units):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)), dtype=torch.float64)


def joint(rbm):
    """Compute P(v, h) by enumeration; return the states of v and of h, and the (2^V, 2^H) probabilities."""
    v, h = (every_state(units) for units in rbm.weight.shape)
    energies = [[float(rbm.energy(one[None], other[None])) for other in h] for one in v]
    return v, h, torch.tensor(energies, dtype=torch.float64).neg().flatten().softmax(0).view(len(v), len(h))


def test_energy_by_hand():
    rbm = RBM(2, 1).double()
    rbm.weight.copy_(torch.tensor([[2.0], [-1.0]]))
    rbm.visible_bias.copy_(torch.tensor([0.5, 0.25]))
    rbm.hidden_bias.fill_(-3.0)
    assert rbm.energy(torch.ones(1, 2).double(), torch.ones(1, 1).double()).item() == -(2 - 1) - 0.75 + 3
    assert rbm.energy(torch.tensor([[1.0, 0.0]]).double(), torch.ones(1, 1).double()).item() == -2 - 0.5 + 3
    assert rbm.energy(torch.ones(1, 2).double(), torch.zeros(1, 1).double()).item() == -0.75


def test_conditionals_and_free_energy_equal_those_of_the_enumerated_joint():
    rbm = make_rbm(5, 4)
    v, h, p = joint(rbm)
    hidden = (p / p.sum(1, keepdim=True)) @ h
    visible = (p / p.sum(0)).T @ v
    torch.testing.assert_close(rbm.hidden_probability(v), hidden, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(rbm.visible_probability(h), visible, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close((-rbm.free_energy(v)).softmax(0), p.sum(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_samples_are_binary_with_the_given_probability(dtype):
    torch.manual_seed(0)
    p = torch.tensor([0.0, 0.001, 0.25, 0.9, 1.0], dtype=dtype)
    drawn = sample(p.expand(100_000, 5))
    assert drawn.dtype == dtype
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.double().mean(0), p.double(), rtol=0, atol=0.005)
    assert drawn[:, 0].sum() == 0
    assert drawn[:, 4].min() == 1
    assert float(drawn[:, 1].double().mean()) == pytest.approx(0.001, rel=0.5)


def test_gibbs_chains_converge_to_the_distribution_of_the_model():
    rbm = make_rbm(4, 3, scale=0.7)
    states, _, p = joint(rbm)
    torch.manual_seed(0)
    v, q = gibbs(rbm, torch.zeros(40_000, 3, dtype=torch.float64), steps=30)
    index = (v @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    assert torch.equal(states[index], v)
    frequency = index.bincount(minlength=16) / len(v)
    torch.testing.assert_close(frequency.double(), p.sum(1), rtol=0, atol=0.01)
    torch.testing.assert_close(q, rbm.hidden_probability(v))


def test_gradient_equals_autograd_of_the_free_energies():
    """Compare with autograd of mean F(chains) - mean F(data) for every buffer."""
    rbm = make_rbm(6, 4, scale=0.5)
    v0, v = (torch.rand(n, 6).lt(0.5).double() for n in (7, 3))
    buffers = [buffer.requires_grad_() for buffer in rbm.buffers()]
    slopes = torch.autograd.grad(rbm.free_energy(v).mean() - rbm.free_energy(v0).mean(), buffers)
    for buffer in buffers:
        buffer.requires_grad_(False)
    gradient = likelihood_gradient(v0, rbm.hidden_probability(v0), v, rbm.hidden_probability(v))
    for ours, theirs in zip(gradient, slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_centred_gradient_equals_the_gradient_of_the_centred_energy():
    """Gradient of W, a', b' in E = -(v - mu) W (h - lambda) - a' v - b' h; a = a' - W lambda and b = b' - mu W."""
    rbm = make_rbm(6, 4, scale=0.5)
    v0, v = (torch.rand(n, 6).lt(0.5).double() for n in (7, 3))
    q0, q = rbm.hidden_probability(v0), rbm.hidden_probability(v)
    mu, lam = torch.rand(6).double(), torch.rand(4).double()
    weight, visible, hidden = centred_gradient(v0, q0, v, q, mu, lam)
    expected = torch.zeros(6, 4).double()
    for row, mean in ((v0, q0), (v, -q)):
        for one, other in zip(row, mean.abs(), strict=True):
            expected += torch.outer(one - mu, other - lam) * (1 if row is v0 else -1) / len(row)
    torch.testing.assert_close(weight, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(visible + expected @ lam, v0.mean(0) - v.mean(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(hidden + mu @ expected, q0.mean(0) - q.mean(0), rtol=1e-10, atol=1e-12)
    plain = likelihood_gradient(v0, q0, v, q)
    for ours, theirs in zip(centred_gradient(v0, q0, v, q, mu * 0, lam * 0), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_step(rbm, velocity, v0, noise, *, steps, learning_rate, momentum, decay, start=None):
    """Take the step of Hinton (2010), sections 2, 3, 9 and 10, in loops over units and samples.

    Chains start at `start`, or at the data if it is None. `noise` contains the uniform random numbers.
    """
    W, b, c = (buffer.tolist() for buffer in rbm.buffers())
    V, H = len(b), len(c)
    noise = iter(noise)

    def hidden(v):
        return [sigmoid(c[j] + sum(v[i] * W[i][j] for i in range(V))) for j in range(H)]

    data = [(v, hidden(v)) for v in v0.tolist()]
    chains = [q for _, q in data] if start is None else start.tolist()
    for _ in range(steps):
        for_h, for_v = next(noise).tolist(), next(noise).tolist()
        moved = []
        for number, q in enumerate(chains):
            h = [1.0 if for_h[number][j] < q[j] else 0.0 for j in range(H)]
            p = [sigmoid(b[i] + sum(W[i][j] * h[j] for j in range(H))) for i in range(V)]
            moved.append([1.0 if for_v[number][i] < p[i] else 0.0 for i in range(V)])
        chains = [hidden(v) for v in moved]
    model = list(zip(moved, chains, strict=True))

    def mean(pairs, statistic):
        return sum(statistic(v, q) for v, q in pairs) / len(pairs)

    for i in range(V):
        for j in range(H):
            slope = mean(data, lambda v, q: v[i] * q[j]) - mean(model, lambda v, q: v[i] * q[j])  # noqa: B023
            step = momentum * velocity[0][i, j] + learning_rate * (slope - decay * W[i][j])
            velocity[0][i, j] = step
            rbm.weight[i, j] += step
    for i in range(V):
        slope = mean(data, lambda v, q: v[i]) - mean(model, lambda v, q: v[i])  # noqa: B023
        velocity[1][i] = momentum * velocity[1][i] + learning_rate * slope
        rbm.visible_bias[i] += velocity[1][i]
    for j in range(H):
        slope = mean(data, lambda v, q: q[j]) - mean(model, lambda v, q: q[j])  # noqa: B023
        velocity[2][j] = momentum * velocity[2][j] + learning_rate * slope
        rbm.hidden_bias[j] += velocity[2][j]
    return torch.tensor(chains, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("chains", [0, 4])
def test_steps_equal_slow_loops_over_samples_and_units(steps, chains, monkeypatch):
    """Three steps of CD-k and PCD-k with the same random numbers give the same weights, biases and chains."""
    fast, slow = make_rbm(7, 5, scale=0.4), make_rbm(7, 5, scale=0.4)
    learner = ContrastiveDivergence(
        fast, chains=chains, steps=steps, momentum=0.7, weight_decay=0.03, dtype=torch.float64
    )
    noise = []

    def record(probability):
        state = torch.get_rng_state()
        noise.append(torch.rand(probability.shape))
        torch.set_rng_state(state)
        return sample(probability)

    monkeypatch.setattr(module, "sample", record)
    velocity = [torch.zeros_like(buffer) for buffer in slow.buffers()]
    state = torch.full((chains, 5), 0.5).double() if chains else None
    for number in range(3):
        v0 = torch.rand(6, 7).lt(0.5).double()
        noise.clear()
        learner.step(fast, v0, learning_rate=0.2 / (1 + number))
        after = slow_step(
            slow, velocity, v0, noise, steps=steps, learning_rate=0.2 / (1 + number), momentum=0.7, decay=0.03,
            start=state,
        )  # fmt: skip
        state = after if chains else None
    for ours, theirs in zip(fast.buffers(), slow.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(learner.velocity.buffers(), velocity, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    if chains:
        torch.testing.assert_close(learner.chains, state, rtol=1e-12, atol=1e-13)


def test_persistent_chains_equal_scikit_learn(monkeypatch):
    """BernoulliRBM and ours compute the same weights and biases from the same random numbers, over several steps."""
    from sklearn.neural_network import BernoulliRBM

    class SameNoise:
        """Random state for scikit-learn that returns the random numbers of ours."""

        def uniform(self, size):
            return noise.pop(0)

    rbm = make_rbm(9, 6, scale=0.3)
    theirs = BernoulliRBM(6, learning_rate=0.1, batch_size=5)
    theirs.components_ = rbm.weight.T.numpy().copy()
    theirs.intercept_visible_ = rbm.visible_bias.numpy().copy()
    theirs.intercept_hidden_ = rbm.hidden_bias.numpy().copy()
    learner = ContrastiveDivergence(rbm, chains=5, dtype=torch.float64)
    noise = []

    def record(probability):
        noise.append(np.random.random(tuple(probability.shape)))
        return torch.from_numpy(noise[-1] < probability.numpy()).double()

    monkeypatch.setattr(module, "sample", record)
    # Ours samples h at the start of a step, scikit-learn at the end of the previous step.
    theirs.h_samples_ = record(learner.chains).numpy()
    first = noise.pop()

    def shared(probability):
        hidden = probability.shape[1] == 6
        return torch.from_numpy(first < probability.numpy()).double() if hidden else record(probability)

    monkeypatch.setattr(module, "sample", shared)
    for _ in range(4):
        v0 = torch.rand(5, 9).lt(0.5).double()
        learner.step(rbm, v0, 0.1)
        first = np.random.random((5, 6))
        noise.append(first)
        theirs._fit(v0.numpy(), SameNoise())
    np.testing.assert_allclose(rbm.weight.T.numpy(), theirs.components_, rtol=1e-10)
    np.testing.assert_allclose(rbm.visible_bias.numpy(), theirs.intercept_visible_, rtol=1e-10)
    np.testing.assert_allclose(rbm.hidden_bias.numpy(), theirs.intercept_hidden_, rtol=1e-10)


def test_sparsity_penalty_shifts_biases_and_weights_towards_the_target():
    rbm = make_rbm(6, 4, dtype=torch.float32)
    twin = make_rbm(6, 4, dtype=torch.float32)
    v0 = torch.rand(20, 6).lt(0.5).float()
    learners = [
        ContrastiveDivergence(each, sparsity_target=0.1, sparsity_cost=cost) for each, cost in ((rbm, 0.0), (twin, 0.5))
    ]
    before = rbm.hidden_probability(v0).mean(0)
    for each, learner in zip((rbm, twin), learners, strict=True):
        torch.manual_seed(0)
        learner.step(each, v0, 0.2)
    activity = torch.full((4,), 0.0) + learners[1].hidden_centre
    torch.testing.assert_close(
        activity, make_rbm(6, 4, dtype=torch.float32).hidden_bias.sigmoid().lerp(before, CENTRE_RATE)
    )
    shift = 0.2 * 0.5 * (0.1 - activity)
    torch.testing.assert_close(twin.hidden_bias - rbm.hidden_bias, shift, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(twin.weight - rbm.weight, torch.outer(v0.mean(0), shift), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(twin.visible_bias, rbm.visible_bias)


def test_centres_are_running_means():
    rbm = make_rbm(6, 4, dtype=torch.float32)
    learner = ContrastiveDivergence(rbm, centre=True)
    v0 = torch.rand(20, 6).lt(0.5).float()
    start = [rbm.visible_bias.sigmoid(), rbm.hidden_bias.sigmoid()]
    means = [v0.mean(0), rbm.hidden_probability(v0).mean(0)]
    learner.step(rbm, v0, 0.1)
    for centre, before, mean in zip((learner.visible_centre, learner.hidden_centre), start, means, strict=True):
        torch.testing.assert_close(centre, 0.99 * before + 0.01 * mean)


def test_bf16_and_fp32_learn_similar_weights(digits):
    """Twelve steps from the same weights end at highly correlated weights."""
    v0 = (digits.train.pixels[:100].flatten(1) > 127).float()
    rbms = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        rbm = RBM(784, 50)
        learner = ContrastiveDivergence(rbm, chains=100, momentum=0.5, centre=True, dtype=dtype)
        for _ in range(12):
            learner.step(rbm, v0, 0.1)
        assert rbm.weight.dtype == torch.float32
        assert learner.chains.dtype == dtype
        rbms.append(rbm)
    one, two = (torch.cat([buffer.flatten() for buffer in rbm.buffers()]) for rbm in rbms)
    assert float(torch.corrcoef(torch.stack([one, two]))[0, 1]) > 0.99


@pytest.mark.parametrize("chains", [0, 20])
@pytest.mark.parametrize(("centre", "learning_rate"), [(False, 0.1), (True, 0.5)])
def test_training_overfits_one_batch(chains, centre, learning_rate, digits):
    """After many steps on four images, their reconstructions are almost without error."""
    torch.manual_seed(0)
    v0 = (digits.train.pixels[:4].flatten(1) > 127).float()
    rbm = make_digits_rbm(v0, 30)
    learner = ContrastiveDivergence(rbm, chains=chains, centre=centre, momentum=0.5)

    def error():
        return float((rbm.visible_probability(sample(rbm.hidden_probability(v0))) - v0).abs().mean())

    assert error() > 0.1
    train_until(lambda: error() < 0.02, lambda: learner.step(rbm, v0, learning_rate), at_most=5_000)
