"""Networks, KL terms, likelihood bounds and preprocessing of the VAE."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Normal, kl_divergence

from ch08_vae import preprocessing as pixels
from ch08_vae.autoencoding import networks
from ch08_vae.autoencoding.book import book_kl
from ch08_vae.autoencoding.networks import VAE
from ch08_vae.evaluation import likelihood as evaluation


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE(5, hidden=(16, 8)).double()


@pytest.fixture
def x():
    return torch.bernoulli(torch.full((12, 784), 0.3, dtype=torch.float64))


def condition(count):
    return torch.nn.functional.one_hot(torch.arange(count) % 10, 10).double()


def test_layer_sizes_are_those_of_the_book():
    shapes = [tuple(p.shape) for p in VAE(8).parameters() if p.ndim == 2]
    assert shapes == [(256, 784), (128, 256), (16, 128), (128, 8), (256, 128), (784, 256)]


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
@pytest.mark.parametrize("conditional", [False, True])
def test_every_architecture_returns_logits_and_posteriors(architecture, conditional):
    model = VAE(3, architecture=architecture, conditional=conditional)
    classes = condition(4).float() if conditional else None
    logits, mu, logvar = model(torch.rand(4, 784), classes)
    assert logits.shape == (4, 784)
    assert mu.shape == logvar.shape == (4, 3)
    assert sum(p.numel() for p in model.parameters()) > 1e5


def test_encoder_and_decoder_equal_the_formula(model, x):
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5, w6, b6 = (p.detach() for p in model.parameters())

    def silu(a):
        return a * torch.sigmoid(a)

    h = silu(silu(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    mu, logvar = model.encode(x)
    torch.testing.assert_close(mu, h[:, :5], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logvar, h[:, 5:], rtol=1e-12, atol=1e-12)
    z = torch.randn(12, 5, dtype=torch.float64)
    expected = silu(silu(z @ w4.T + b4) @ w5.T + b5) @ w6.T + b6
    torch.testing.assert_close(model.decode(z), expected, rtol=1e-12, atol=1e-12)


def test_encoder_and_decoder_depend_on_the_class():
    torch.manual_seed(0)
    model = VAE(3, hidden=(16, 8), conditional=True)
    x, z, classes = torch.rand(1, 784), torch.randn(1, 3), torch.eye(10)
    codes = torch.cat([model.encode(x, classes[label : label + 1])[0] for label in range(10)])
    images = torch.cat([model.decode(z, classes[label : label + 1]) for label in range(10)])
    assert (torch.pdist(codes) > 1e-3).all()
    assert (torch.pdist(images) > 1e-3).all()


def test_samples_have_the_moments_of_the_posterior_and_pass_gradients():
    torch.manual_seed(0)
    mu = torch.tensor([[1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    logvar = torch.tensor([[0.0, math.log(9)]], dtype=torch.float64, requires_grad=True)
    z = networks.sample(mu.expand(40_000, 2), logvar.expand(40_000, 2))
    torch.testing.assert_close(z.mean(0), mu[0], rtol=0, atol=0.06)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 3.0], dtype=torch.float64), rtol=0.02, atol=0)
    to_mu, to_logvar = torch.autograd.grad(z.square().mean(0).sum(), [mu, logvar])
    torch.testing.assert_close(to_mu, 2 * mu.detach(), rtol=0, atol=0.12)  # d E[z^2] / d mu = 2 mu
    torch.testing.assert_close(to_logvar, logvar.detach().exp(), rtol=0.05, atol=0)  # and sigma^2 by log sigma^2


def test_kl_equals_torch_distributions():
    mu, logvar = torch.randn(2, 50, 4, dtype=torch.float64)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(networks.kl_divergence(mu, logvar), expected)


def test_kl_equals_the_monte_carlo_estimate():
    torch.manual_seed(0)
    mu, logvar = torch.tensor([[0.7, -1.5, 0.0]]), torch.tensor([[-1.0, 0.5, -4.0]])
    q = Normal(mu, (logvar / 2).exp())
    z = q.sample((200_000,))
    estimate = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).mean(0)
    torch.testing.assert_close(networks.kl_divergence(mu, logvar), estimate, rtol=0, atol=0.015)


def test_the_books_kl_has_log_sigma_in_place_of_log_variance():
    mu, sigma = torch.tensor([[0.5, 2.0]]), torch.tensor([[0.1, 0.9]])
    expected = (mu**2 + sigma - 1 - sigma.log()) / 2
    torch.testing.assert_close(book_kl(mu, 2 * sigma.log()), expected)
    assert float(book_kl(torch.zeros(1), torch.zeros(1))) == 0, "not zero at the prior"


def test_log_bernoulli_equals_torch_distributions():
    logits = 6 * torch.randn(7, 784, dtype=torch.float64)
    x = torch.bernoulli(torch.rand(7, 784, dtype=torch.float64))
    torch.testing.assert_close(networks.log_bernoulli(logits, x), Bernoulli(logits=logits).log_prob(x).sum(1))


def test_log_weights_equal_torch_distributions(model, x):
    torch.manual_seed(3)
    log_w = evaluation.log_weights(model, x, None, 4)
    torch.manual_seed(3)
    epsilon = torch.randn(12, 4, 5, dtype=torch.float64)
    mu, logvar = model.encode(x)
    q = Normal(mu.unsqueeze(1), (logvar / 2).exp().unsqueeze(1))
    z = q.mean + q.stddev * epsilon
    logits = model.decode(z.flatten(0, 1)).view(12, 4, 784)
    expected = Bernoulli(logits=logits).log_prob(x.unsqueeze(1)).sum(2)
    expected = expected + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(2)
    torch.testing.assert_close(log_w, expected)


class KnownLikelihood(VAE):
    """VAE with a known likelihood: only the first pixel depends on z, and the posterior is the prior."""

    def encode(self, x, classes=None):
        return torch.zeros(len(x), 1), torch.zeros(len(x), 1)

    def decode(self, z, classes=None):
        return torch.cat([4 * z, torch.zeros(len(z), 783)], dim=1)


def test_bounds_increase_with_k_and_converge_to_the_likelihood():
    """p(x_0 = 1) = E[sigmoid(4 z)] = 1/2, so log p(x) = -784 log 2; the posterior is the prior."""
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((40, 784), 0.5))
    bounds = evaluation.likelihood(KnownLikelihood(1), x, None, samples=5_000, images=40)
    exact = -784 * math.log(2)
    assert bounds.elbo < bounds.bound_50 - 0.5 < bounds.log_likelihood
    assert bounds.bound_50 == pytest.approx(exact, abs=0.03)
    assert bounds.log_likelihood == pytest.approx(exact, abs=0.02)
    elbo = exact + math.log(2) - float(torch.nn.functional.softplus(4 * torch.randn(400_000)).mean())
    assert bounds.elbo == pytest.approx(elbo, abs=0.15)
    weights = torch.randn(400_000, 5).mul(4).sigmoid().mean(1)
    assert bounds.bound_5 == pytest.approx(exact + math.log(2) + float(weights.log().mean()), abs=0.05)


def test_the_bound_of_a_network_increases_with_k(model, x):
    with torch.no_grad():
        model.posterior.weight.mul_(20)  # a posterior far from the exact one
    gains = []
    for k in (50, 500, 5_000):
        torch.manual_seed(0)
        bounds = evaluation.likelihood(model, x, None, samples=k, images=12)
        assert bounds.elbo < bounds.bound_5 - 0.1 < bounds.bound_50 - 0.2
        gains.append(bounds.log_likelihood - bounds.bound_50)
    assert gains[0] == 0
    assert 0.01 < gains[1] < gains[2] - 0.01


def test_the_gain_of_the_first_images_is_added_to_the_bound_of_all(model, x):
    torch.manual_seed(0)
    whole = evaluation.likelihood(model, x, None, samples=500, images=12)
    assert whole.log_likelihood_error == 0
    part = evaluation.likelihood(model, x, None, samples=500, images=4)
    assert part.bound_50 == pytest.approx(whole.bound_50, abs=0.3)
    assert part.log_likelihood_error > 0
    assert abs(part.log_likelihood - whole.log_likelihood) < 5 * part.log_likelihood_error + 0.3
    assert part.log_likelihood >= part.bound_50


@settings(deadline=None, max_examples=15)
@given(images=st.integers(1, 7), groups=st.integers(1, 5), rows=st.integers(50, 220), conditional=st.booleans())
def test_the_number_of_samples_decoded_at_once_is_bounded(images, groups, rows, conditional):
    model = VAE(2, hidden=(4,), conditional=conditional)
    seen = []
    model.decoder.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "ROWS", rows)
        x = torch.bernoulli(torch.full((images, 784), 0.4))
        elbo, bound_5, bounds = evaluation.group_bounds(
            model, x, condition(images).float() if conditional else None, groups
        )
    assert elbo.shape == bound_5.shape == (images,)
    assert bounds.shape == (images, groups)
    assert max(seen) <= rows
    assert sum(seen) == images * groups * evaluation.GROUP
    assert bool((elbo <= bound_5 + 1e-9).all()), "the mean of logs is below the log of the mean"
    assert bool((bound_5 <= bounds.mean(1) + 1e-9).all())


def test_chunks_keep_classes_and_images_together(monkeypatch):
    torch.manual_seed(0)
    model = VAE(2, hidden=(8,), conditional=True)
    x, classes = torch.bernoulli(torch.full((9, 784), 0.4)), condition(9).float()
    whole = evaluation.decoded(model, torch.zeros(9, 2), classes), evaluation.posterior(model, x, classes)[0]
    monkeypatch.setattr(evaluation, "ROWS", 2)
    monkeypatch.setattr(evaluation.chunks, "__defaults__", (2,))
    parts = evaluation.decoded(model, torch.zeros(9, 2), classes), evaluation.posterior(model, x, classes)[0]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


def test_measure_returns_the_elbo_and_its_terms(model, x):
    torch.manual_seed(0)
    measures = evaluation.measure(model, x)
    model.requires_grad_(False)
    assert measures["elbo"] == pytest.approx(measures["reconstruction"] - measures["kl"])
    torch.manual_seed(0)
    logits, mu, logvar = model(x)
    assert measures["kl"] == pytest.approx(float(networks.kl_divergence(mu, logvar).sum(1).mean()), rel=1e-5)
    expected = Bernoulli(logits=logits).log_prob(x).sum(1).mean()
    assert measures["reconstruction"] == pytest.approx(float(expected), rel=1e-5)


def test_active_units_by_hand():
    mu = torch.tensor([[0.0, 0.1, 3.0], [0.15, 0.1, -3.0]])  # variances 0.0056, 0, 9
    assert evaluation.active_units(mu) == 1
    assert evaluation.active_units(2 * mu) == 2


def test_binarisation_samples_with_grey_levels_as_probabilities(digits):
    torch.manual_seed(0)
    image = torch.full((1, 1, 28, 28), 51, dtype=torch.uint8)
    sampled = pixels.binarised(image.repeat(300, 1, 1, 1), "dynamic")
    assert set(sampled.unique().tolist()) == {0.0, 1.0}
    assert float(sampled.mean()) == pytest.approx(0.2, abs=0.004)
    assert not torch.equal(sampled[0], sampled[1])
    torch.testing.assert_close(pixels.binarised(image, "none"), torch.full((1, 784), 0.2))
    torch.manual_seed(1)
    one = pixels.fixed(digits.test.pixels, "dynamic")
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = pixels.fixed(digits.test.pixels, "dynamic")
    assert torch.equal(one, two), "test pixels depend on the global generator"
    assert torch.equal(before, torch.get_rng_state()), "the state of the global generator changed"


def test_test_pixels_are_sampled_with_a_separate_generator(digits, monkeypatch):
    torch.manual_seed(pixels.BINARY_SEED)
    recorded = pixels.binarised(digits.test.pixels, "dynamic")  # from torch's global generator on the CPU
    monkeypatch.setattr(
        torch, "manual_seed", lambda seed: pytest.fail("torch.manual_seed also seeds the generators of the GPUs")
    )
    assert torch.equal(pixels.fixed(digits.test.pixels, "dynamic"), recorded)


def test_the_initial_output_of_the_decoder_is_the_mean_image(digits):
    model = VAE(3, hidden=(8,))
    networks.initialise_output_bias(model, digits.train.pixels)
    last = list(model.decoder.parameters())[-2:]
    torch.nn.init.zeros_(last[0])
    mean = pixels.flat(digits.train.pixels).mean(0)
    output = evaluation.decoded(model, torch.randn(2, 3))
    torch.testing.assert_close(output[0], mean, rtol=0, atol=1e-3)
    assert bool(last[1].isfinite().all())
