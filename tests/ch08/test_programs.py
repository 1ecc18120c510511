"""Digit classifier, latent sweep, throughput."""

import json
from dataclasses import replace

import pytest
import torch

from ch08_vae import preprocessing as pixels
from ch08_vae.autoencoding import latent_sweep, throughput, vae
from ch08_vae.autoencoding.networks import VAE
from ch08_vae.evaluation import classifier
from common import distributed
from common.data.images.loading import load_images
from common.run import Run
from conftest import train_until

CPU = torch.device("cpu")


# The classifier.


def test_the_classifier_is_accurate_and_repeatable_and_keeps_the_generator_state(digits):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = classifier.fit_classifier(digits, CPU)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    two = classifier.fit_classifier(digits, CPU)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert classifier.accuracy(one, pixels.flat(digits.test.pixels), digits.test.labels) > 0.95
    assert not one.training


def test_every_process_trains_the_same_classifier_on_all_images(digits, monkeypatch):
    few = replace(digits, train=digits.train[:300])
    alone = classifier.fit_classifier(few, CPU)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        one = classifier.fit_classifier(few, CPU)
        assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), one.parameters(), strict=True))


@pytest.mark.parametrize(("name", "kept"), [("cuda:0", ["cuda:0"]), ("mps", ["mps"]), ("cpu", [])])
def test_fitting_restores_the_generator_of_its_device(digits, monkeypatch, name, kept):
    def fork(devices, device_type):
        raise LookupError([str(device) for device in devices], device_type)

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_: tensor)
    with pytest.raises(LookupError) as seen:
        classifier.fit_classifier(digits, torch.device(name))
    assert seen.value.args == (kept, name.partition(":")[0])


@pytest.mark.gpu
def test_classifier_and_test_pixels_keep_the_generator_state_of_the_gpu(digits):
    torch.cuda.manual_seed(7)
    before = torch.cuda.get_rng_state()
    pixels.fixed(digits.test.pixels, "dynamic", "cuda")
    classifier.fit_classifier(digits, torch.device("cuda"))
    assert torch.equal(before, torch.cuda.get_rng_state())


def test_features_probabilities_and_accuracy_equal_the_formulas():
    torch.manual_seed(0)
    network = classifier.make_classifier().eval()
    images, labels = torch.rand(2_003, 784), torch.arange(2_003) % 10
    w1, b1, w2, b2 = (p.detach() for p in network.parameters())
    hidden = (images @ w1.T + b1).clamp(min=0)
    torch.testing.assert_close(classifier.features(network, images), hidden, rtol=1e-4, atol=1e-5)
    logits = hidden @ w2.T + b2
    torch.testing.assert_close(classifier.probabilities(network, images), logits.softmax(1), rtol=1e-4, atol=1e-5)
    expected = float((logits.argmax(1) == labels).float().mean())
    assert classifier.accuracy(network, images, labels) == pytest.approx(expected, abs=0.002)


# The sweep.


@pytest.mark.slow
def test_the_sweep_compares_vaes_with_plain_autoencoders(options, digits, capsys):
    config = latent_sweep.Config(
        data="digits", latent_sizes=(1, 8), hidden=(64, 32), epochs=25, batch_size=64, run=options
    )
    metrics = latent_sweep.train(config, digits)
    for size in (1, 8):
        elbo, reconstruction = metrics[f"latent_{size}_elbo"], metrics[f"latent_{size}_reconstruction"]
        assert elbo == pytest.approx(reconstruction - metrics[f"latent_{size}_kl"])
        assert 0 < metrics[f"latent_{size}_active_units"] <= size
        for kind in ("", "plain_"):
            assert metrics[f"latent_{size}_{kind}frechet_distance"] > metrics["real_frechet_distance"] > 0
    assert metrics["latent_8_elbo"] > metrics["latent_1_elbo"] + 10
    assert metrics["latent_8_plain_reconstruction"] > metrics["latent_8_reconstruction"]
    assert list(options.out.rglob("sweep.png"))
    assert "latent 8" in capsys.readouterr().out


def test_the_sweep_runs_with_very_few_images(options):
    config = latent_sweep.Config(data="digits", latent_sizes=(1, 2), hidden=(4,), epochs=1, run=options)
    for limit in (1, 3):
        assert latent_sweep.train(config, load_images("digits", limit=limit))["latent_2_elbo"] < 0


def test_a_plain_autoencoder_has_no_noise_and_overfits_one_batch(digits):
    x = pixels.fixed(digits.train.pixels[:16], "dynamic")
    torch.manual_seed(0)
    model = VAE(4, hidden=(32,))
    optimizer = vae.make_optimizer(model, 3e-3)
    losses = []
    train_until(
        lambda: losses[-1] < 120,
        lambda: losses.append(float(latent_sweep.autoencoder_step(model, optimizer, x))),
        at_most=1_000,
    )
    assert losses[0] > 500
    assert latent_sweep.reconstruction(model, x) == latent_sweep.reconstruction(model, x)
    assert -latent_sweep.reconstruction(model, x) < losses[-1] + 5


def test_code_samples_have_the_mean_and_deviation_of_the_codes():
    torch.manual_seed(0)
    code = torch.tensor([2.0, -3.0]) + torch.tensor([5.0, 0.1]) * torch.randn(5_000, 2)
    samples = latent_sweep.code_samples(code, 5_000)
    torch.testing.assert_close(samples.mean(0), code.mean(0), rtol=0, atol=0.3)
    torch.testing.assert_close(samples.std(0), code.std(0), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_sizes": ()}, "--latent-sizes needs at least one number"),
        ({"latent_sizes": (2, 2)}, "--latent-sizes must differ"),
        ({"latent_sizes": (0,)}, "--latent-sizes must be a number above 0"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        latent_sweep.Config(**settings)


# The throughput.


@pytest.mark.parametrize("bits", [True, False])
def test_throughput_samples_pixels_with_grey_levels_as_probabilities(digits, options, bits):
    config = throughput.Config(data="digits", batch_size=len(digits.train), run=options)
    with Run.open("ch08_vae.autoencoding.throughput", config, digits.card) as run:
        stream = throughput.stream(digits.train, config, run, bits=bits)
        mean = torch.stack([next(stream).mean(0) for _ in range(10)]).mean(0)
        run.finish(run={})
    expected = pixels.flat(digits.train.pixels).mean(0)
    deviation = (expected * (1 - expected) / (10 * len(digits.train))).sqrt()
    assert ((mean - expected).abs() <= 6 * deviation + 1e-6).all()


def test_throughput_metrics_of_every_variant(digits, options):
    config = throughput.Config(data="digits", batch_size=64, rounds=1, seconds=0.2, run=options)
    metrics = throughput.train(config, digits)
    for name in ("default", "random_bits", "fp32", "bf16", "hand_bf16"):
        assert metrics[f"{name}_images_per_second"] > 0
    ratio = metrics["fp32_images_per_second"] / metrics["default_images_per_second"]
    assert metrics["fp32_ratio"] == pytest.approx(ratio)
    assert list(options.out.rglob("throughput.png"))
    (path,) = options.out.rglob("summary.json")
    assert json.loads(path.read_text())["device"].endswith(", fp32 and bf16"), "--precision is not used"
