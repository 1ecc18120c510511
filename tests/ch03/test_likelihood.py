"""Exact and annealed log-likelihood and pseudo-likelihood, compared with enumeration."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ch03_autoencoder_rbm.boltzmann import likelihood
from ch03_autoencoder_rbm.boltzmann.gibbs import RBM, ContrastiveDivergence, sample
from ch03_autoencoder_rbm.boltzmann.likelihood import (
    annealed_log_partition,
    base_rates,
    exact_log_partition,
    log_likelihood,
    mean_free_energy,
    pseudo_likelihood,
)


def make_rbm(visible, hidden, scale=0.5):
    torch.manual_seed(5)
    rbm = RBM(visible, hidden)
    for buffer in rbm.buffers():
        buffer.normal_(0, scale)
    return rbm


@pytest.mark.parametrize(("visible", "hidden"), [(6, 3), (3, 6), (5, 5), (1, 1)])
def test_exact_partition_equals_the_sum_over_all_states(visible, hidden):
    rbm = make_rbm(visible, hidden).double()
    total = sum(
        math.exp(-float(rbm.energy(torch.tensor([v]).double(), torch.tensor([h]).double())))
        for v in itertools.product([0, 1], repeat=visible)
        for h in itertools.product([0, 1], repeat=hidden)
    )
    assert exact_log_partition(rbm) == pytest.approx(math.log(total), abs=1e-10)


@pytest.mark.parametrize(("visible", "hidden"), [(30, 14), (14, 30)])
def test_exact_partition_enumerates_the_smaller_layer_in_parts(visible, hidden):
    """14 units have 16,384 states, 30 units too many to enumerate; without weights Z is a product."""
    rbm = make_rbm(visible, hidden)
    rbm.weight.zero_()
    known = sum(math.log1p(math.exp(bias)) for bias in [*rbm.visible_bias.tolist(), *rbm.hidden_bias.tolist()])
    assert exact_log_partition(rbm) == pytest.approx(known, abs=1e-9)


def test_exact_partition_rejects_too_large_layers():
    with pytest.raises(ValueError, match="a layer of at most 20 units, got 21"):
        exact_log_partition(RBM(30, 21))


def test_probabilities_sum_to_one():
    rbm = make_rbm(8, 4)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8)))
    log_z = exact_log_partition(rbm)
    log_p = torch.tensor([log_likelihood(rbm, image[None], log_z) for image in images])
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert log_likelihood(rbm, images, log_z) == pytest.approx(float(log_p.mean()), abs=1e-5)
    assert mean_free_energy(rbm, images.repeat(20, 1)) == pytest.approx(mean_free_energy(rbm, images), abs=1e-5)


@pytest.fixture(scope="module")
def trained(digits):
    """Return an RBM with 12 hidden units, trained on binary digits of 14x14 pixels, and these digits."""
    torch.manual_seed(0)
    images = (F.avg_pool2d(digits.train.pixels.float(), 2) > 127).float().flatten(1)
    rbm = RBM(196, 12)
    rbm.visible_bias.copy_(base_rates(images))
    learner = ContrastiveDivergence(rbm, chains=50, centre=True, momentum=0.5)
    for step in range(800):
        learner.step(rbm, images[torch.randint(len(images), (100,))], 0.1 * (1 - step / 800))
    return rbm, images


def test_annealed_partition_is_within_a_hundredth_of_a_nat_of_the_exact_one(trained):
    rbm, images = trained
    torch.manual_seed(0)
    exact = exact_log_partition(rbm)
    estimate = annealed_log_partition(rbm, base_rates(images), temperatures=2_000, chains=1_000)
    assert estimate.value == pytest.approx(exact, abs=0.01)
    assert 0 < estimate.error < 0.01
    assert 500 < estimate.effective_chains <= 1_000


def test_standard_error_of_short_annealing_is_realistic(trained):
    """The root mean squared error of thirty short estimates is within a factor of two of their mean standard error."""
    rbm, images = trained
    torch.manual_seed(1)
    exact = exact_log_partition(rbm)
    runs = [annealed_log_partition(rbm, base_rates(images), temperatures=100, chains=100) for _ in range(30)]
    actual = math.sqrt(sum((run.value - exact) ** 2 for run in runs) / len(runs))
    stated = sum(run.error for run in runs) / len(runs)
    assert 0.5 < actual / stated < 2


def test_temperatures_are_denser_near_one():
    betas = likelihood.inverse_temperatures(1_000)
    steps = torch.tensor(betas, dtype=torch.float64).diff()
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 1_001)
    assert (steps.diff() < 0).all(), "each step is smaller than the previous one"
    assert sum(beta > 0.9 for beta in betas) > 300


def test_annealed_partition_of_twenty_hidden_units(digits):
    """The estimate has many effective chains and is within four standard errors of the exact value."""
    torch.manual_seed(0)
    images = (F.avg_pool2d(digits.train.pixels.float(), 2) > 127).float().flatten(1)
    rbm = RBM(196, 20)
    rbm.visible_bias.copy_(base_rates(images))
    learner = ContrastiveDivergence(rbm, chains=50, centre=True, momentum=0.5)
    for step in range(800):
        learner.step(rbm, images[torch.randint(len(images), (100,))], 0.1 * (1 - step / 800))
    estimate = annealed_log_partition(rbm, base_rates(images), temperatures=1_000, chains=500)
    assert estimate.effective_chains > 100
    assert estimate.value == pytest.approx(exact_log_partition(rbm), abs=4 * estimate.error)


def test_annealing_is_exact_if_the_rbm_is_the_base_model():
    """Without weights, and with its visible biases as base, every chain has the same importance weight."""
    rbm = make_rbm(12, 5)
    rbm.weight.zero_()
    rbm.hidden_bias.zero_()
    estimate = annealed_log_partition(rbm, rbm.visible_bias, temperatures=3, chains=10)
    assert estimate.value == pytest.approx(exact_log_partition(rbm), abs=1e-5)
    assert estimate.error == pytest.approx(0, abs=1e-6)
    assert estimate.effective_chains == pytest.approx(10)


def test_base_rates_are_finite_log_odds():
    images = torch.tensor([[1.0, 0.0, 1.0]] * 95 + [[0.0, 0.0, 1.0]] * 0)
    assert base_rates(images).sigmoid().tolist() == pytest.approx([97.5 / 100, 2.5 / 100, 97.5 / 100])


def test_pseudo_likelihood_equals_the_sum_of_the_conditionals(monkeypatch):
    rbm = make_rbm(6, 4, scale=1.0)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    exact = 0.0
    for v in images:
        for pixel in range(6):
            other = v.clone()
            other[pixel] = 1 - v[pixel]
            f, g = rbm.free_energy(v[None]).item(), rbm.free_energy(other[None]).item()
            exact += math.log(math.exp(-f) / (math.exp(-f) + math.exp(-g)))
    exact /= len(images)
    monkeypatch.setattr(likelihood, "FLIPS", 400_000)
    many = images.repeat(100, 1)
    assert pseudo_likelihood(rbm, many) == pytest.approx(exact, rel=0.01)
    assert pseudo_likelihood(rbm, many) == pseudo_likelihood(rbm, many), "each call must use the same pixels"
    assert pseudo_likelihood(rbm, images[:3]) != pseudo_likelihood(rbm, images[3:6])


class NoFloat64(TorchFunctionMode):
    """Simulate a device without float64, such as MPS: only tensors fetched with `.cpu()` may become float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.Tensor.cpu:
            result = result.clone()
            result.fetched = True
        elif isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            given = [tensor for tensor in args if isinstance(tensor, torch.Tensor)]
            here = any(tensor.dtype == torch.float64 or hasattr(tensor, "fetched") for tensor in given)
            assert here or "device" not in (kwargs or {}), f"{func} creates float64 on the device"
            assert here or not any(tensor.is_floating_point() for tensor in given), (
                f"{func} creates float64 on the device"
            )
        return result


def test_no_float64_on_devices_without_it(monkeypatch):
    rbm, images = make_rbm(8, 4), sample(torch.full((30, 8), 0.5))
    torch.manual_seed(3)
    expected = annealed_log_partition(rbm, base_rates(images), 50, 20).value
    monkeypatch.setattr(likelihood, "widest_float", lambda _: torch.float32)
    torch.manual_seed(3)
    with NoFloat64():
        log_z = annealed_log_partition(rbm, base_rates(images), 50, 20).value
        assert math.isfinite(exact_log_partition(rbm) + log_likelihood(rbm, images, log_z))
        assert math.isfinite(pseudo_likelihood(rbm, images))
    assert log_z == pytest.approx(expected, abs=1e-4)


def test_training_increases_likelihood_and_pseudo_likelihood(trained):
    rbm, images = trained
    base = RBM(196, 12)
    base.visible_bias.copy_(base_rates(images))
    base.weight.zero_()
    assert pseudo_likelihood(rbm, images) > pseudo_likelihood(base, images) + 10
    trained_likelihood = log_likelihood(rbm, images, exact_log_partition(rbm))
    assert trained_likelihood > log_likelihood(base, images, exact_log_partition(base)) + 8
