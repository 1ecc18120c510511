"""Boltzmann machines: conditionals, sampling and the learning rule against enumeration, slow loops and scikit-learn."""

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
    """(2^V, 2^H) P(v, h) by listing everything."""
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


def test_conditionals_and_free_energy_are_those_of_the_enumerated_joint():
    rbm = make_rbm(5, 4)
    v, h, p = joint(rbm)
    hidden = (p / p.sum(1, keepdim=True)) @ h
    visible = (p / p.sum(0)).T @ v
    torch.testing.assert_close(rbm.hidden_probability(v), hidden, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(rbm.visible_probability(h), visible, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close((-rbm.free_energy(v)).softmax(0), p.sum(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_samples_are_binary_and_as_frequent_as_asked(dtype):
    torch.manual_seed(0)
    asked = torch.tensor([0.0, 0.001, 0.25, 0.9, 1.0], dtype=dtype)
    drawn = sample(asked.expand(100_000, 5))
    assert drawn.dtype == dtype
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.double().mean(0), asked.double(), rtol=0, atol=0.005)
    assert drawn[:, 0].sum() == 0
    assert drawn[:, 4].min() == 1
    assert float(drawn[:, 1].double().mean()) == pytest.approx(0.001, rel=0.5)


def test_the_chain_forgets_its_start_and_visits_states_as_often_as_the_model_says():
    rbm = make_rbm(4, 3, scale=0.7)
    states, _, p = joint(rbm)
    torch.manual_seed(0)
    v, q = gibbs(rbm, torch.zeros(40_000, 3, dtype=torch.float64), steps=30)
    index = (v @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    assert torch.equal(states[index], v)
    seen = index.bincount(minlength=16) / len(v)
    torch.testing.assert_close(seen.double(), p.sum(1), rtol=0, atol=0.01)
    torch.testing.assert_close(q, rbm.hidden_probability(v))


def test_the_gradient_is_that_of_the_free_energies():
    """What autograd finds of mean F(samples) - mean F(data), in every buffer."""
    rbm = make_rbm(6, 4, scale=0.5)
    v0, v = (torch.rand(n, 6).lt(0.5).double() for n in (7, 3))
    buffers = [buffer.requires_grad_() for buffer in rbm.buffers()]
    slopes = torch.autograd.grad(rbm.free_energy(v).mean() - rbm.free_energy(v0).mean(), buffers)
    for buffer in buffers:
        buffer.requires_grad_(False)
    gradient = likelihood_gradient(v0, rbm.hidden_probability(v0), v, rbm.hidden_probability(v))
    for ours, theirs in zip(gradient, slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_centred_gradient_moves_the_plain_energy_as_its_own_energy():
    """A step in W, a', b' of E = -(v - mu) W (h - lambda) - a' v - b' h, where a = a' - W lambda and b = b' - mu W."""
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


def slow_step(rbm, velocity, v0, dice, *, steps, learning_rate, momentum, decay, start=None):
    """Hinton (2010), sections 2, 3, 9 and 10, a unit and a sample at a time; `start` holds chains, else data start."""
    W, b, c = (buffer.tolist() for buffer in rbm.buffers())
    V, H = len(b), len(c)
    dice = iter(dice)

    def hidden(v):
        return [sigmoid(c[j] + sum(v[i] * W[i][j] for i in range(V))) for j in range(H)]

    data = [(v, hidden(v)) for v in v0.tolist()]
    chains = [q for _, q in data] if start is None else start.tolist()
    for _ in range(steps):
        for_h, for_v = next(dice).tolist(), next(dice).tolist()
        moved = []
        for number, q in enumerate(chains):
            h = [1.0 if for_h[number][j] < q[j] else 0.0 for j in range(H)]
            p = [sigmoid(b[i] + sum(W[i][j] * h[j] for j in range(H))) for i in range(V)]
            moved.append([1.0 if for_v[number][i] < p[i] else 0.0 for i in range(V)])
        chains = [hidden(v) for v in moved]
    model = list(zip(moved, chains, strict=True))

    def mean(pairs, what):
        return sum(what(v, q) for v, q in pairs) / len(pairs)

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
def test_learning_is_the_papers_loop_over_samples_and_units(steps, chains, monkeypatch):
    """CD-k and PCD-k, three steps with the same dice: the same weights, biases and chains."""
    fast, slow = make_rbm(7, 5, scale=0.4), make_rbm(7, 5, scale=0.4)
    learner = ContrastiveDivergence(
        fast, chains=chains, steps=steps, momentum=0.7, weight_decay=0.03, dtype=torch.float64
    )
    thrown = []

    def watch(probability):
        state = torch.get_rng_state()
        thrown.append(torch.rand(probability.shape))
        torch.set_rng_state(state)
        return sample(probability)

    monkeypatch.setattr(module, "sample", watch)
    velocity = [torch.zeros_like(buffer) for buffer in slow.buffers()]
    held = torch.full((chains, 5), 0.5).double() if chains else None
    for number in range(3):
        v0 = torch.rand(6, 7).lt(0.5).double()
        thrown.clear()
        learner.step(fast, v0, learning_rate=0.2 / (1 + number))
        after = slow_step(
            slow, velocity, v0, thrown, steps=steps, learning_rate=0.2 / (1 + number), momentum=0.7, decay=0.03,
            start=held,
        )  # fmt: skip
        held = after if chains else None
    for ours, theirs in zip(fast.buffers(), slow.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(learner.velocity.buffers(), velocity, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    if chains:
        torch.testing.assert_close(learner.chains, held, rtol=1e-12, atol=1e-13)


def test_persistent_learning_is_scikit_learns(monkeypatch):
    """BernoulliRBM and ours, given the same dice, over steps: weights and biases stay the same."""
    from sklearn.neural_network import BernoulliRBM

    class Dice:
        """Gives scikit-learn the numbers that ours has thrown."""

        def uniform(self, size):
            return thrown.pop(0)

    rbm = make_rbm(9, 6, scale=0.3)
    theirs = BernoulliRBM(6, learning_rate=0.1, batch_size=5)
    theirs.components_ = rbm.weight.T.numpy().copy()
    theirs.intercept_visible_ = rbm.visible_bias.numpy().copy()
    theirs.intercept_hidden_ = rbm.hidden_bias.numpy().copy()
    learner = ContrastiveDivergence(rbm, chains=5, dtype=torch.float64)
    thrown = []

    def watch(probability):
        thrown.append(np.random.random(tuple(probability.shape)))
        return torch.from_numpy(thrown[-1] < probability.numpy()).double()

    monkeypatch.setattr(module, "sample", watch)
    # Ours throws for h at the start of a step, theirs at the end of the one before.
    theirs.h_samples_ = watch(learner.chains).numpy()
    first = thrown.pop()

    def shared(probability):
        hidden = probability.shape[1] == 6
        return torch.from_numpy(first < probability.numpy()).double() if hidden else watch(probability)

    monkeypatch.setattr(module, "sample", shared)
    for _ in range(4):
        v0 = torch.rand(5, 9).lt(0.5).double()
        learner.step(rbm, v0, 0.1)
        first = np.random.random((5, 6))
        thrown.append(first)
        theirs._fit(v0.numpy(), Dice())
    np.testing.assert_allclose(rbm.weight.T.numpy(), theirs.components_, rtol=1e-10)
    np.testing.assert_allclose(rbm.visible_bias.numpy(), theirs.intercept_visible_, rtol=1e-10)
    np.testing.assert_allclose(rbm.hidden_bias.numpy(), theirs.intercept_hidden_, rtol=1e-10)


def test_sparsity_pushes_every_unit_towards_the_target():
    rbm = make_rbm(6, 4, dtype=torch.float32)
    twin = make_rbm(6, 4, dtype=torch.float32)
    v0 = torch.rand(20, 6).lt(0.5).float()
    learners = [
        ContrastiveDivergence(machine, sparsity_target=0.1, sparsity_cost=cost)
        for machine, cost in ((rbm, 0.0), (twin, 0.5))
    ]
    before = rbm.hidden_probability(v0).mean(0)
    for machine, learner in zip((rbm, twin), learners, strict=True):
        torch.manual_seed(0)
        learner.step(machine, v0, 0.2)
    activity = torch.full((4,), 0.0) + learners[1].hidden_centre
    torch.testing.assert_close(
        activity, make_rbm(6, 4, dtype=torch.float32).hidden_bias.sigmoid().lerp(before, CENTRE_RATE)
    )
    pushed = 0.2 * 0.5 * (0.1 - activity)
    torch.testing.assert_close(twin.hidden_bias - rbm.hidden_bias, pushed, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(twin.weight - rbm.weight, torch.outer(v0.mean(0), pushed), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(twin.visible_bias, rbm.visible_bias)


def test_the_centres_follow_the_data():
    rbm = make_rbm(6, 4, dtype=torch.float32)
    learner = ContrastiveDivergence(rbm, centre=True)
    v0 = torch.rand(20, 6).lt(0.5).float()
    start = [rbm.visible_bias.sigmoid(), rbm.hidden_bias.sigmoid()]
    means = [v0.mean(0), rbm.hidden_probability(v0).mean(0)]
    learner.step(rbm, v0, 0.1)
    for centre, before, mean in zip((learner.visible_centre, learner.hidden_centre), start, means, strict=True):
        torch.testing.assert_close(centre, 0.99 * before + 0.01 * mean)


def test_bf16_learns_what_fp32_learns(digits):
    """Twelve steps from the same machine: the narrow sampler leads to the same place, up to its dice."""
    v0 = (digits.train.pixels[:100].flatten(1) > 127).float()
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        rbm = RBM(784, 50)
        learner = ContrastiveDivergence(rbm, chains=100, momentum=0.5, centre=True, dtype=dtype)
        for _ in range(12):
            learner.step(rbm, v0, 0.1)
        assert rbm.weight.dtype == torch.float32
        assert learner.chains.dtype == dtype
        ends.append(rbm)
    one, two = (torch.cat([buffer.flatten() for buffer in rbm.buffers()]) for rbm in ends)
    assert float(torch.corrcoef(torch.stack([one, two]))[0, 1]) > 0.99


@pytest.mark.parametrize("chains", [0, 20])
@pytest.mark.parametrize(("centre", "learning_rate"), [(False, 0.1), (True, 0.5)])
def test_one_batch_is_learned_by_heart(chains, centre, learning_rate, digits):
    """Four images, many steps: the machine draws them from their own hidden states almost without a mistake."""
    torch.manual_seed(0)
    v0 = (digits.train.pixels[:4].flatten(1) > 127).float()
    rbm = make_digits_rbm(v0, 30)
    learner = ContrastiveDivergence(rbm, chains=chains, centre=centre, momentum=0.5)

    def mistakes():
        return float((rbm.visible_probability(sample(rbm.hidden_probability(v0))) - v0).abs().mean())

    assert mistakes() > 0.1
    train_until(lambda: mistakes() < 0.02, lambda: learner.step(rbm, v0, learning_rate), at_most=5_000)
