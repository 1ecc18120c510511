"""Noise schedules, posterior, samplers, guidance and network of the diffusion model."""

import math

import pytest
import torch
from torch import nn

from ch08_vae.diffusion import sampling
from ch08_vae.diffusion.network import Block, ChannelNorm, UNet, time_embedding
from ch08_vae.diffusion.sampling import Sampler, ancestral_step, ddim_step, denoise, generate, guided_noise, times
from ch08_vae.diffusion.schedule import (
    LARGEST_BETA,
    add_noise,
    cosine_abar,
    linear_betas,
    make_schedule,
    posterior,
    remove_noise,
)

FLOAT64 = torch.float64
SCHEDULES = pytest.mark.parametrize("name", ["cosine", "linear"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(count: int = 3, dtype=FLOAT64) -> torch.Tensor:
    return torch.rand(count, 1, 4, 4, dtype=dtype) * 2 - 1


def every(time: int, count: int = 3) -> torch.Tensor:
    return torch.full((count,), time)


# The schedules.


def test_the_cosine_schedule_is_the_formula_of_the_paper():
    def f(t: float) -> float:
        return math.cos((t / 1_000 + 0.008) / 1.008 * math.pi / 2) ** 2

    abar = make_schedule("cosine", 1_000, dtype=FLOAT64).abar
    for t in (0, 1, 250, 500, 900, 999):
        assert float(abar[t]) == pytest.approx(f(t) / f(0), rel=1e-9)
        assert float(cosine_abar(torch.tensor(t), 1_000)) == pytest.approx(f(t) / f(0), rel=1e-12)
    assert float(abar[500]) == pytest.approx(0.4938, abs=5e-5)  # by hand: cos^2(0.791573) / cos^2(0.012467)


def test_beta_is_limited_at_the_end_of_the_cosine_schedule():
    schedule = make_schedule("cosine", 50, dtype=FLOAT64)
    assert float(schedule.beta[-1]) == LARGEST_BETA == float(schedule.beta.max())
    assert float(schedule.beta[-2]) < LARGEST_BETA
    assert float(schedule.abar[-1]) == pytest.approx(float(schedule.abar[-2]) * (1 - LARGEST_BETA))


def test_the_linear_schedule_has_the_ends_of_the_paper_and_is_scaled():
    beta = linear_betas(1_000)
    assert (float(beta[0]), float(beta[-1])) == pytest.approx((1e-4, 0.02))
    torch.testing.assert_close(beta.diff(), torch.full((999,), 0.0199 / 999, dtype=FLOAT64))
    assert (float(linear_betas(100)[0]), float(linear_betas(100)[-1])) == pytest.approx((1e-3, 0.2))
    assert float(linear_betas(5)[-1]) == LARGEST_BETA


@SCHEDULES
@pytest.mark.parametrize("steps", [2, 37, 1_000])
def test_the_coefficients_belong_together(name, steps):
    schedule = make_schedule(name, steps, dtype=FLOAT64)
    assert schedule.steps == steps and len(schedule.abar) == steps + 1
    assert (float(schedule.beta[0]), float(schedule.alpha[0]), float(schedule.abar[0])) == (0, 1, 1)
    assert bool((schedule.abar.diff() < 0).all()) and float(schedule.abar[-1]) > 0
    torch.testing.assert_close(schedule.alpha, 1 - schedule.beta)
    assert make_schedule(name, steps).abar.dtype == torch.float32


# The noising process.


@SCHEDULES
def test_t_steps_at_once_have_the_distribution_of_t_single_steps(name):
    schedule = make_schedule(name, 12, dtype=FLOAT64)
    mean, variance = 1.0, 0.0
    x_0 = torch.full((40_000, 1, 1, 1), 0.7, dtype=FLOAT64)
    x = x_0
    for t in range(1, 13):
        alpha, beta = float(schedule.alpha[t]), float(schedule.beta[t])
        mean, variance = math.sqrt(alpha) * mean, alpha * variance + beta
        x = math.sqrt(alpha) * x + math.sqrt(beta) * torch.randn_like(x)
        at_once = add_noise(schedule, x_0, every(t, len(x)), torch.randn_like(x))
        assert mean == pytest.approx(math.sqrt(float(schedule.abar[t])), rel=1e-10)
        assert variance == pytest.approx(1 - float(schedule.abar[t]), rel=1e-10)
        for sample in (x, at_once):
            assert float(sample.mean()) == pytest.approx(0.7 * mean, abs=0.025)  # five standard errors
            assert float(sample.var()) == pytest.approx(variance, rel=0.04)


def test_every_image_of_a_batch_gets_the_noise_of_its_time():
    schedule, x_0, epsilon = (
        make_schedule("cosine", 10, dtype=FLOAT64),
        images(),
        torch.randn(3, 1, 4, 4, dtype=FLOAT64),
    )
    t = torch.tensor([0, 4, 10])
    x_t = add_noise(schedule, x_0, t, epsilon)
    assert torch.equal(x_t[0], x_0[0])
    abar = float(schedule.abar[4])
    torch.testing.assert_close(x_t[1], math.sqrt(abar) * x_0[1] + math.sqrt(1 - abar) * epsilon[1])
    torch.testing.assert_close(remove_noise(schedule, x_t, t, epsilon), x_0)


@SCHEDULES
@pytest.mark.parametrize("t", [2, 5, 11])
def test_the_posterior_is_the_normalised_product_of_two_gaussians(name, t):
    """q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0); mean and variance on a grid."""
    schedule = make_schedule(name, 12, dtype=FLOAT64)
    x_0, x_t = 0.6, -0.3
    grid = torch.linspace(-8, 8, 400_001, dtype=FLOAT64)
    alpha, beta, before = (float(c) for c in (schedule.alpha[t], schedule.beta[t], schedule.abar[t - 1]))
    log = -((x_t - math.sqrt(alpha) * grid).square() / (2 * beta))
    log = log - (grid - math.sqrt(before) * x_0).square() / (2 * (1 - before))
    weight = log.softmax(0)
    mean = float((weight * grid).sum())
    variance = float((weight * (grid - mean).square()).sum())
    one = torch.ones(1, 1, 1, 1, dtype=FLOAT64)
    found = posterior(schedule, x_0 * one, x_t * one, torch.tensor([t]))
    assert float(found[0]) == pytest.approx(mean, rel=1e-8)
    assert float(found[1]) == pytest.approx(variance, rel=1e-6)


def test_the_posterior_of_the_first_step_is_the_image():
    schedule, x_0 = make_schedule("cosine", 12, dtype=FLOAT64), images()
    mean, variance = posterior(schedule, x_0, images(), every(1))
    torch.testing.assert_close(mean, x_0)
    assert float(variance.abs().max()) == 0


# The samplers.


@SCHEDULES
def test_ddim_with_eta_1_is_the_ancestral_step_on_the_full_schedule(name):
    schedule, x_0 = make_schedule(name, 30, dtype=FLOAT64), images()
    for t in range(1, 31):
        x_t, noise = torch.randn_like(x_0), torch.randn_like(x_0)
        expected = ancestral_step(schedule, x_t, x_0, every(t), noise)
        found = ddim_step(schedule, x_t, x_0, every(t), every(t - 1), noise, eta=1.0)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        if t > 1:
            assert float((ancestral_step(schedule, x_t, x_0, every(t), 2 * noise) - expected).abs().max()) > 0


def test_a_ddim_step_with_half_the_noise_by_hand():
    """abar_t = 0.25, abar_s = 0.64, eta = 0.5: sigma^2 = 0.25 * 0.36 / 0.75 * (1 - 0.25 / 0.64) = 0.073125."""
    schedule = make_schedule("linear", 2, dtype=FLOAT64)
    schedule = type(schedule)(schedule.beta, schedule.alpha, torch.tensor([1, 0.64, 0.25], dtype=FLOAT64))
    x_t, x_0, noise = (torch.full((1, 1, 1, 1), value, dtype=FLOAT64) for value in (0.5, 0.2, 2.0))
    found = ddim_step(schedule, x_t, x_0, torch.tensor([2]), torch.tensor([1]), noise, eta=0.5)
    epsilon = (0.5 - 0.5 * 0.2) / math.sqrt(0.75)
    expected = 0.8 * 0.2 + math.sqrt(0.36 - 0.073125) * epsilon + math.sqrt(0.073125) * 2
    assert float(found) == pytest.approx(expected, rel=1e-12)


class Oracle:
    """Denoiser that knows the image x_0, so it finds the true noise of any x_t."""

    def __init__(self, schedule, x_0):
        self.schedule, self.x_0, self.calls = schedule, x_0, []

    def __call__(self, x_t, t, classes):
        self.calls.append(int(t[0]))
        abar = self.schedule.abar[t].view(-1, 1, 1, 1)
        return (x_t - abar.sqrt() * self.x_0) / (1 - abar).sqrt()


def walk(sampler: Sampler, schedule, x_0, noise):
    oracle = Oracle(schedule, x_0)
    return oracle, list(denoise(oracle, schedule, noise, every(0), sampler, no_class=10))


@SCHEDULES
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_ddim_with_the_true_noise_recovers_the_image_and_passes_through_its_noisy_versions(name, steps):
    schedule, x_0 = make_schedule(name, 100, dtype=FLOAT64), images()
    epsilon = torch.randn_like(x_0)
    _, path = walk(Sampler(steps=steps), schedule, x_0, add_noise(schedule, x_0, every(100), epsilon))
    assert [t for t, _, _ in path] == times(100, steps)[1:]
    for t, x_t, predicted in path:
        torch.testing.assert_close(x_t, add_noise(schedule, x_0, every(t), epsilon), rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(predicted, x_0, rtol=1e-7, atol=1e-7)
    assert torch.equal(path[-1][1], path[-1][2])


@pytest.mark.parametrize("sampler", [Sampler("ancestral"), Sampler(steps=9, eta=1.0)])
def test_samplers_with_noise_end_at_the_image_too(sampler):
    schedule, x_0 = make_schedule("cosine", 40, dtype=FLOAT64), images()
    oracle, path = walk(sampler, schedule, x_0, torch.randn_like(x_0))
    torch.testing.assert_close(path[-1][1], x_0)
    if sampler.method == "ancestral":
        assert oracle.calls == list(range(40, 0, -1))
    other = walk(sampler, schedule, x_0, torch.randn_like(x_0))[1]
    assert not torch.allclose(path[0][1], other[0][1])


def test_ddim_without_eta_is_deterministic_and_eta_adds_noise():
    schedule, x_0 = make_schedule("cosine", 40, dtype=FLOAT64), images()
    noise = torch.randn_like(x_0)
    for eta, equal in ((0.0, True), (0.5, False)):
        first, second = (walk(Sampler(steps=5, eta=eta), schedule, x_0, noise)[1] for _ in range(2))
        assert torch.equal(first[1][1], second[1][1]) == equal


def test_the_predicted_image_is_limited_to_the_range_of_pixels():
    schedule = make_schedule("cosine", 40, dtype=FLOAT64)
    x_t, nothing = torch.full((1, 1, 2, 2), 3.0, dtype=FLOAT64), torch.zeros(1, 1, 2, 2, dtype=FLOAT64)
    for sign in (1, -1):
        found = sampling.predicted_image(schedule, sign * x_t, torch.tensor([20]), nothing)
        assert torch.equal(found, torch.full_like(found, sign))


def test_times_are_equally_spaced_and_end_at_zero():
    assert times(1_000, 4) == [1_000, 750, 500, 250, 0]
    assert times(5, 5) == [5, 4, 3, 2, 1, 0]
    for total in (7, 100, 1_000):
        for steps in range(1, total + 1, max(1, total // 9)):
            path = times(total, steps)
            assert len(set(path)) == steps + 1 and path == sorted(path, reverse=True)


# Guidance.


class ByClass:
    """Denoiser whose prediction is the class; it records the sizes of its batches."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x_t, t, classes):
        self.sizes.append(len(x_t))
        return classes.double().view(-1, 1, 1, 1) + 100 * x_t + t.view(-1, 1, 1, 1)


@pytest.mark.parametrize(("scale", "expected"), [(0, 10.0), (1, 3.0), (2, -4.0), (0.5, 6.5)])
def test_guidance_moves_from_the_unconditional_to_the_conditional_prediction_and_beyond(scale, expected):
    model, x_t = ByClass(), torch.randn(4, 1, 2, 2, dtype=FLOAT64)
    found = guided_noise(model, x_t, every(7, 4), every(3, 4), no_class=10, scale=scale)
    torch.testing.assert_close(found, 100 * x_t + 7 + expected)
    assert model.sizes == [4 if scale in (0, 1) else 8]


def test_images_are_generated_in_parts_with_their_classes(monkeypatch):
    monkeypatch.setattr(sampling, "AT_ONCE", 3)
    seen = []

    def model(x_t, t, classes):
        seen.append(classes.tolist())
        return torch.zeros_like(x_t)

    schedule, classes = make_schedule("cosine", 10), torch.arange(7)
    draws = [
        generate(
            model, schedule, (3, 4, 4), classes, Sampler(steps=2), no_class=10,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert draws[0].shape == (7, 3, 4, 4)
    assert draws[0].min() >= 0 and draws[0].max() <= 1
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert seen[:6] == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5], [6], [6]]


# The network.


def test_the_time_embedding_by_hand():
    found = time_embedding(torch.tensor([0, 3]), 4)
    expected = [[0, 0, 1, 1], [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]]
    torch.testing.assert_close(found, torch.tensor(expected))
    distinct = time_embedding(torch.arange(1_001), 128)
    distance = torch.cdist(distinct, distinct) + 10 * torch.eye(1_001)
    assert float(distance.min()) > 0.1, "two times have nearly the same embedding"


def test_features_are_normalised_over_the_channels_of_each_pixel():
    x = torch.randn(2, 5, 3, 4)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(ChannelNorm(5)(x), expected, rtol=1e-4, atol=1e-5)


def test_a_block_starts_as_its_shortcut_and_the_embedding_scales_and_shifts():
    block, x, embedding = Block(4, 4, 6), torch.randn(2, 4, 5, 5), torch.randn(2, 6)
    assert torch.equal(block(x, embedding), x)
    nn.init.normal_(block.conv_2.weight)
    nn.init.normal_(block.scale_and_shift.weight)
    scale, shift = (embedding @ block.scale_and_shift.weight.T).view(2, 2, 4, 1, 1).unbind(1)
    h = block.conv_1(nn.functional.silu(block.norm_1(x)))
    h = block.conv_2(nn.functional.silu(block.norm_2(h) * (1 + scale) + shift))
    torch.testing.assert_close(block(x, embedding), x + h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32)])
def test_the_network_starts_at_zero_and_every_weight_learns(channels, side):
    model = UNet(channels, 8, classes=10).to(memory_format=torch.channels_last)
    x, t, classes = torch.randn(11, channels, side, side), torch.arange(11) + 1, torch.arange(11)
    assert torch.equal(model(x, t, classes), torch.zeros_like(x))
    for _ in range(5):  # the layers that start at zero pass no gradient to those below them
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        optimizer.zero_grad()
        (model(x, t, classes) - x).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    found = model(x, t, classes)
    assert found.shape == x.shape
    assert not torch.allclose(found, model(x, t + 100, classes), atol=1e-5), "the time has no effect"
    assert not torch.allclose(found[:10], model(x, t, torch.full((11,), 10))[:10], atol=1e-5), "the class has no effect"
    assert model.label.weight.grad is not None and len(model.label.weight) == 11
