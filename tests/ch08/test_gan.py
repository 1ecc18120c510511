"""The program `gan`: both networks, the training step, the training loop, resume, wrong settings."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from ch08_vae import preprocessing as pixels
from ch08_vae.adversarial import gan
from ch08_vae.evaluation import classifier
from ch08_vae.film import Film
from common.data.images.loading import load_images
from conftest import train_until

CPU = torch.device("cpu")


def frames(film) -> int:
    return film.n_frames


@pytest.fixture
def gan_config(options):
    return gan.Config(data="digits", epochs=2, width=8, run=options)


@pytest.fixture
def short_classifier(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 2)
    monkeypatch.setattr(classifier, "EPOCHS", 1)


def make_pair(config):
    torch.manual_seed(0)
    pair = gan.make_pair(config)
    return pair, gan.make_optimizers(pair, config)


def test_output_shapes_and_initial_weights_of_the_pair(gan_config):
    pair, _ = make_pair(replace(gan_config, width=32))
    generated = pair.generator(torch.randn(3, 64))
    assert generated.shape == (3, 1, 28, 28)
    assert generated.abs().max() <= 1
    assert pair.discriminator(generated).shape == (3,)
    weights = [m.weight.detach() for m in pair.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    assert float(torch.cat([w.flatten() for w in weights]).std()) == pytest.approx(0.02, rel=0.03)
    assert pair.state_dict().keys() >= {"generator.layers.4.weight", "discriminator.layers.6.bias"}


def test_pixels_are_scaled_to_the_range_of_the_generator():
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert gan.scaled(levels).flatten().tolist() == [-1, 1]
    pair, _ = make_pair(gan.Config())
    z = torch.randn(4, 64)
    samples = gan.generate(pair.generator, z)
    assert pair.generator.training
    pair.generator.eval()
    torch.testing.assert_close(samples, (pair.generator(z).detach().flatten(1) + 1) / 2)


def test_each_network_takes_a_step_on_its_own_loss(gan_config, digits):
    """The first Adam update of each network by the formula, on the binary cross-entropies."""
    pair, optimizers = make_pair(gan_config)
    reference, _ = make_pair(gan_config)
    real = gan.scaled(digits.train.pixels[:16])
    torch.manual_seed(5)
    loss, generator_loss = gan.train_step(pair, optimizers, real)
    assert generator_loss is not None
    assert all(p.grad is None for p in pair.parameters())

    torch.manual_seed(5)
    generated = reference.generator(torch.randn(16, 64))
    on_real, on_generated = reference.discriminator(real), reference.discriminator(generated.detach())
    expected = -on_real.sigmoid().log().mean() - (1 - on_generated.sigmoid()).log().mean()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_stepped(reference.discriminator, pair.discriminator, expected)
    reference.discriminator.load_state_dict(pair.discriminator.state_dict())
    expected = -reference.discriminator(generated).sigmoid().log().mean()
    assert float(generator_loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_stepped(reference.generator, pair.generator, expected)


def assert_stepped(before, after, loss):
    gradients = torch.autograd.grad(loss, list(before.parameters()))
    for old, new, g in zip(before.parameters(), after.parameters(), gradients, strict=True):
        big = g.abs() > 1e-6  # the sign of smaller ones depends on rounding
        expected = old.detach() - 1e-3 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(new.detach()[big], expected[big], rtol=1e-3, atol=2e-5)


def test_the_generator_decreases_its_loss_against_a_fixed_discriminator(gan_config, digits):
    pair, optimizers = make_pair(gan_config)
    real = gan.scaled(digits.train.pixels[:32])
    for group in optimizers[1].param_groups:
        group["lr"] = 0.0
    losses = []
    train_until(
        lambda: losses[-1] < losses[0] - 0.05,
        lambda: losses.append(float(gan.train_step(pair, optimizers, real)[1] or 0)),
        at_most=300,
    )


def test_pixel_variance_by_hand():
    assert gan.pixel_variance(torch.rand(1, 784).repeat(50, 1)) == pytest.approx(0, abs=1e-12)
    assert gan.pixel_variance(torch.rand(2_000, 784)) == pytest.approx(1 / 12, rel=0.05)


def test_the_monitor_detects_a_mode_collapse(digits):
    network = classifier.fit_classifier(digits, CPU)
    real, other = pixels.flat(digits.valid.pixels), pixels.flat(digits.test.pixels)
    healthy, collapsed = gan.monitor(network, other, real), gan.monitor(network, other[:1].repeat(100, 1), real)
    assert healthy["classes"] == 10
    assert healthy["variety"] == pytest.approx(1, abs=0.1)
    assert collapsed["classes"] == 1
    assert collapsed["variety"] == pytest.approx(0, abs=1e-6)
    assert collapsed["frechet_distance"] > 10 * healthy["frechet_distance"]


@pytest.mark.slow
def test_the_gan_learns_and_restores(gan_config, digits):
    config = replace(gan_config, epochs=12, batch_size=64, learning_rate=5e-4, width=16)
    metrics = gan.train(config, digits)
    assert metrics["sample_classes"] >= 4
    assert metrics["sample_variety"] > 0.4
    assert metrics["sample_frechet_distance"] > metrics["real_frechet_distance"]
    assert metrics["class_mean_recall"] < 0.1
    folder = next(config.run.out.rglob("model.safetensors")).parent
    generator, restored = gan.restore(folder)
    assert restored == config
    samples = gan.generate(generator, torch.randn(10, 64))
    assert samples.min() >= 0
    assert samples.max() <= 1
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {
        "valid_precision",
        "valid_recall",
        "valid_classes",
        "valid_variety",
        "valid_frechet_distance",
        "valid_generator_loss",
    } <= set(rows[0])
    for name in ("samples", "classes", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    with Image.open(folder / "training.gif") as film:
        assert frames(film) > 5


@pytest.mark.slow
def test_a_resumed_gan_has_the_same_weights(gan_config, monkeypatch):
    data = load_images("digits", limit=150)
    config = replace(gan_config, epochs=3, batch_size=64)
    gan.train(config, data)
    (reference,) = config.run.out.rglob("model.safetensors")
    elsewhere = replace(config, run=replace(config.run, out=config.run.out / "again"))
    take = Film.take

    def stop(film, epoch, draw):
        if epoch == 3:
            raise KeyboardInterrupt
        take(film, epoch, draw)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(Film, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        gan.train(elsewhere, data)
    monkeypatch.setattr(Film, "take", take)
    gan.train(replace(elsewhere, run=replace(elsewhere.run, resume=True)), data)
    (resumed,) = elsewhere.run.out.rglob("model.safetensors")
    assert resumed.read_bytes() == reference.read_bytes()
    assert resumed.with_name("training.gif").read_bytes() == reference.with_name("training.gif").read_bytes()


@pytest.mark.parametrize("limit", [2, 129])
def test_training_works_with_a_last_batch_of_one_image(gan_config, short_classifier, limit):
    found = gan.train(replace(gan_config, epochs=1), load_images("digits", limit=limit))
    assert all(math.isfinite(value) for value in found.values())


def test_a_gan_requires_two_images(gan_config):
    with pytest.raises(ValueError, match="--limit must leave at least 2 images, got 1"):
        gan.train(gan_config, load_images("digits", limit=1))
    with pytest.raises(ValueError, match="--batch-size must be at least 2"):
        gan.Config(batch_size=1)


def test_precision_and_recall_of_the_monitor_use_equally_many_real_images(digits):
    network = classifier.make_classifier().eval()
    real, other = pixels.flat(digits.valid.pixels), pixels.flat(digits.test.pixels)
    found = gan.monitor(network, other[:50], real)
    features = classifier.features(network, real[:50]), classifier.features(network, other[:50])
    assert (found["precision"], found["recall"]) == gan.sample_quality.precision_and_recall(*features)


@pytest.mark.parametrize(("critic_steps", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (9, [5])])
def test_critic_steps_are_counted_and_every_epoch_trains_the_generator(
    gan_config, monkeypatch, short_classifier, critic_steps, expected
):
    calls = []

    def watch(pair, optimizers, real, *, loss, gradient_penalty, train_generator, bf16):
        calls.append((loss, gradient_penalty, train_generator))
        return torch.zeros(()), torch.ones(()) if train_generator else None

    monkeypatch.setattr(gan, "train_step", watch)
    monkeypatch.setattr(gan, "report", lambda *_: None)
    monkeypatch.setattr(gan, "monitor", lambda *_: {})
    settings = {"loss": "wasserstein", "critic_steps": critic_steps, "gradient_penalty": 7.0, "width": 4}
    config = gan.Config(**settings, data="digits", epochs=2, batch_size=16, run=gan_config.run)
    gan.train(config, load_images("digits", limit=80))
    assert [number % 5 + 1 for number, (*_, trained) in enumerate(calls) if trained] == 2 * expected
    assert {(loss, penalty) for loss, penalty, _ in calls} == {("wasserstein", 7.0)}


@pytest.mark.parametrize("settings", [{"loss": "wasserstein"}, {"spectral_norm": True}, {"network": "dcgan"}])
def test_other_settings_train_and_restore(gan_config, settings, monkeypatch, short_classifier):
    monkeypatch.setattr(gan, "report", lambda *_: None)
    monkeypatch.setattr(gan, "MONITORED", 40)
    config = gan.Config(**settings, data="digits", epochs=1, width=4, batch_size=16, run=gan_config.run)
    found = gan.train(config, load_images("digits", limit=60))
    assert all(math.isfinite(value) for value in found.values())
    generator, restored = gan.restore(next(config.run.out.rglob("model.safetensors")).parent)
    assert restored == config
    assert gan.generate(generator, torch.randn(3, 64)).shape == (3, 784)


def test_defaults_follow_the_loss():
    usual, wasserstein = gan.Config(), gan.Config(loss="wasserstein")
    assert (usual.critic_steps, usual.gradient_penalty, usual.discriminator_norm) == (1, 0, "batch")
    assert (wasserstein.critic_steps, wasserstein.gradient_penalty, wasserstein.discriminator_norm) == (5, 10, "none")
    assert gan.Config(loss="wasserstein", gradient_penalty=0, discriminator_norm="batch").gradient_penalty == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_penalty": 10.0}, "--gradient-penalty needs --loss wasserstein, got non-saturating"),
        ({"gradient_penalty": -1.0}, "--gradient-penalty must be a number of at least 0, got -1.0"),
        ({"gradient_penalty": math.inf, "loss": "wasserstein"}, "--gradient-penalty must be a number of at least 0"),
        ({"critic_steps": 0}, "--critic-steps must be a number above 0, got 0"),
        (
            {"loss": "wasserstein", "discriminator_norm": "batch"},
            "--discriminator-norm must be none with a gradient penalty, which is defined for single images, got batch",
        ),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        gan.Config(**settings)


def test_the_benchmark_counts_critic_steps(monkeypatch):
    trained = []
    monkeypatch.setattr(gan, "train_step", lambda *_, train_generator, **__: trained.append(train_generator))
    work = gan.workload(gan.Config(loss="wasserstein", critic_steps=3, width=4, batch_size=2), CPU)
    for _ in range(6):
        work.step()
    assert trained == [False, False, True] * 2
