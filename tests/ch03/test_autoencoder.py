"""The autoencoder: formulas, noise, training step, PCA baseline, training and figures."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ch03_autoencoder_rbm.digits import autoencoder
from ch03_autoencoder_rbm.digits.autoencoder import Autoencoder, Config, Snapshots
from ch03_autoencoder_rbm.preprocessing import intensities
from common import schedule
from common.data.images.loading import load_images
from conftest import train_until


@pytest.fixture
def config(options):
    return Config(data="digits", epochs=20, run=options)


def test_layer_sizes_are_the_books():
    model = Autoencoder()
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(128, 784), (64, 128), (128, 64), (784, 128)]
    code = model.encode(torch.rand(3, 784))
    assert code.shape == (3, 64)
    decoded = model.decode(code)
    assert decoded.shape == (3, 784)
    assert decoded.min() > 0
    assert decoded.max() < 1


def test_forward_equals_the_formula():
    torch.manual_seed(0)
    model = Autoencoder().double()
    x = torch.rand(5, 784, dtype=torch.float64)
    w1, b1, w2, b2, w3, b3, w4, b4 = model.parameters()

    def silu(a):
        return a / (1 + torch.exp(-a))

    z = silu(x @ w1.T + b1) @ w2.T + b2
    expected = 1 / (1 + torch.exp(-(silu(z @ w3.T + b3) @ w4.T + b4)))
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_noise_has_the_given_standard_deviation_and_is_clamped():
    grey = torch.full((200, 784), 0.5)
    noisy = autoencoder.noisy(grey, 0.1, torch.Generator().manual_seed(0))
    assert float((noisy - grey).std()) == pytest.approx(0.1, rel=0.02)
    clamped = autoencoder.noisy(grey, 5.0)
    assert clamped.min() == 0
    assert clamped.max() == 1
    assert autoencoder.noisy(grey, 0) is grey


def test_squared_error_by_hand():
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images[1] = 255
    outputs = torch.full((2, 784), 0.25)
    assert autoencoder.squared_error(outputs, images).tolist() == pytest.approx([0.0625, 0.5625])


def test_evaluation_noise_does_not_depend_on_the_random_seed(digits):
    model = Autoencoder()
    torch.manual_seed(1)
    first, _ = autoencoder.reconstruct(model, digits.test.pixels, 0.3)
    torch.manual_seed(2)
    second, _ = autoencoder.reconstruct(model, digits.test.pixels, 0.3)
    assert torch.equal(first, second)


def test_step_equals_adam(config):
    """Adam's first update from its formula (Kingma & Ba 2015, algorithm 1); the targets differ from the inputs."""
    torch.manual_seed(0)
    model = Autoencoder()
    before = [p.detach().clone() for p in model.parameters()]
    inputs, targets = torch.rand(8, 784), torch.rand(8, 784)
    gradients = torch.autograd.grad(F.mse_loss(model(inputs), targets), list(model.parameters()))
    optimizer = autoencoder.make_optimizer(model, config.learning_rate)
    schedule.set_learning_rate(optimizer, 0.002)
    autoencoder.train_step(model, optimizer, inputs, targets)
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.002 * g / (g.abs() + 1e-8), rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("bf16", [False, True])
def test_training_overfits_one_batch(config, digits, bf16):
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = autoencoder.make_optimizer(model, config.learning_rate)
    pixels = intensities(digits.train.pixels[:16])
    schedule.set_learning_rate(optimizer, 3e-3)
    losses = []
    train_until(
        lambda: losses[-1] < 0.005,
        lambda: losses.append(float(autoencoder.train_step(model, optimizer, pixels, pixels, bf16=bf16))),
        at_most=1_000,
    )
    assert losses[0] > 0.1


def test_training_beats_the_mean_image_is_repeatable_and_restores(config, digits):
    first, second = autoencoder.train(config, digits), autoencoder.train(config, digits)
    pixels = intensities(digits.test.pixels)
    mean_image_mse = float((pixels - intensities(digits.train.pixels).mean(0)).square().mean())
    assert first["test_mse"] < 0.75 * mean_image_mse
    assert first["test_mse"] == second["test_mse"]
    one, two = (autoencoder.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    _, outputs = autoencoder.reconstruct(one, digits.test.pixels)
    assert float(autoencoder.squared_error(outputs, digits.test.pixels).mean()) == pytest.approx(first["test_mse"])


def test_pca_baseline_projects_on_the_largest_eigenvectors(config, digits):
    pixels, inputs = intensities(digits.train.pixels), intensities(digits.test.pixels)
    mean = pixels.mean(0)
    _, vectors = torch.linalg.eigh((pixels - mean).double().T @ (pixels - mean).double())
    largest = vectors[:, -64:].float()
    expected = mean + (inputs - mean) @ largest @ largest.T
    found = autoencoder.principal_components(digits.train.pixels, inputs, 64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    metrics = autoencoder.train(replace(config, epochs=1), digits)
    assert metrics["test_pca_mse"] == pytest.approx(float((expected - inputs).square().mean()), rel=1e-3)


def test_denoising_removes_noise(config, digits):
    metrics = autoencoder.train(replace(config, epochs=60, noise=0.5), digits)
    assert metrics["test_input_mse"] > 0.05
    assert metrics["test_mse"] < 0.5 * metrics["test_input_mse"]


def test_noise_is_added_to_the_input_but_not_to_the_target(config, digits, monkeypatch):
    batches = []
    step = autoencoder.train_step

    def record(model, optimizer, inputs, targets, **options):
        batches.append((inputs, targets))
        return step(model, optimizer, inputs, targets, **options)

    monkeypatch.setattr(autoencoder, "train_step", record)
    autoencoder.train(replace(config, epochs=1, noise=0.3), digits)
    for inputs, targets in batches:
        torch.testing.assert_close(targets * 255, (targets * 255).round(), rtol=0, atol=1e-4)
        assert float((inputs - targets).abs().mean()) > 0.05


@pytest.mark.figures
def test_figures_are_written(config, digits):
    autoencoder.train(replace(config, epochs=3, noise=0.2), digits)
    (folder,) = config.run.out.glob("*/autoencoder/*")
    for name in ("pairs", "mistakes", "epochs", "filters", "code", "classes", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_snapshots_are_restored_from_a_checkpoint(digits):
    snapshots = Snapshots(digits.valid.pixels[:3], epochs=100, count=3)
    assert snapshots.epochs == {1, 10, 100}
    for epoch in range(1, 13):
        snapshots.take(Autoencoder(), epoch, 0.0)
    restored = Snapshots(digits.valid.pixels[:3], epochs=100, count=3)
    restored.load_state_dict(snapshots.state_dict())
    assert list(restored.reconstructions) == [1, 10]
    assert torch.equal(restored.reconstructions[10], snapshots.reconstructions[10])
    assert restored.reconstructions[10].shape == (3, 784)


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_training_works_with_few_images(options, limit):
    data = load_images("digits", limit=limit)
    metrics = autoencoder.train(Config(data="digits", epochs=1, run=options), data)
    assert 0 < metrics["test_mse"] < 1


@pytest.mark.slow
@pytest.mark.data
def test_mnist_in_two_epochs(real_data, options):
    metrics = autoencoder.train(Config(data="mnist", epochs=2, run=options))
    assert metrics["test_mse"] < 0.02
