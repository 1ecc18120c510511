"""The vae program: training step, schedules, metrics and figures."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ch08_vae import preprocessing as pixels
from ch08_vae.autoencoding import networks, vae
from ch08_vae.autoencoding.book import book_kl
from ch08_vae.autoencoding.networks import VAE
from ch08_vae.autoencoding.vae import Config
from ch08_vae.evaluation import likelihood as evaluation
from ch08_vae.film import Film
from common.data.images.image_set import Split
from common.data.images.loading import load_images
from common.schedule import one_cycle
from conftest import train_until


@pytest.fixture
def config(options):
    return Config(data="digits", epochs=2, hidden=(32, 16), importance_samples=50, likelihood_images=20, run=options)


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the figures, which take most of the time of a short training."""
    monkeypatch.setattr(vae.pictures, "report", lambda *_: None)


def fit_one_batch(digits, goal=None, **settings):
    """Train on one batch until the loss is below the goal, or for 300 steps without a goal."""
    torch.manual_seed(0)
    config = Config(**{"hidden": (64,), **settings})
    model = vae.make_model(config)
    optimizer = vae.make_optimizer(model, 3e-3)
    x = pixels.fixed(digits.train.pixels[:16], config.binarisation)
    classes = vae.one_hot(digits.train.labels[:16], config)
    options = {"beta": config.beta, "kl": book_kl if config.kl == "book" else networks.kl_divergence}
    losses = []

    def step():
        losses.append(float(vae.train_step(model, optimizer, x, classes, **options)))

    if goal is None:
        for _ in range(300):
            step()
    else:
        train_until(lambda: losses[-1] < goal, step, at_most=1_500)
    return model, x, losses


@pytest.mark.parametrize("settings", [{}, {"conditional": True}, {"binarisation": "none"}])
def test_one_batch_is_overfitted(digits, settings):
    _, _, losses = fit_one_batch(digits, goal=150, **settings)
    assert losses[0] > 500


def test_convolutions_overfit_one_batch(digits):
    _, _, losses = fit_one_batch(digits, goal=250, architecture="conv")
    assert losses[0] > 500


def test_a_larger_beta_decreases_the_kl_divergence(digits):
    divergences = []
    for beta in (0.2, 5.0):
        model, x, _ = fit_one_batch(digits, beta=beta)
        mu, logvar = evaluation.posterior(model, x)
        divergences.append(float(networks.kl_divergence(mu, logvar).sum(1).mean()))
    assert divergences[0] > 2 * divergences[1]


def test_the_books_kl_decreases_the_posterior_deviations(digits):
    sigma = {}
    for kl in ("exact", "book"):
        model, x, _ = fit_one_batch(digits, kl=kl)
        _, logvar = evaluation.posterior(model, x)
        sigma[kl] = float((logvar / 2).exp().mean())
    assert sigma["book"] < 0.95 * sigma["exact"]


def test_training_step_equals_adam_on_the_negative_elbo(digits):
    """One update by the formula (Kingma & Ba 2015, algorithm 1)."""
    torch.manual_seed(0)
    model = VAE(4, hidden=(8,))
    before = [p.detach().clone() for p in model.parameters()]
    x = pixels.fixed(digits.train.pixels[:8], "dynamic")
    torch.manual_seed(1)
    logits, mu, logvar = model(x)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    bound = (torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(1) - kl.sum(1)).mean()
    gradients = torch.autograd.grad(-bound, list(model.parameters()))
    torch.manual_seed(1)
    loss = vae.train_step(model, vae.make_optimizer(model, 0.002), x)
    assert float(loss) == pytest.approx(-float(bound.detach()), rel=1e-6)
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.002 * g / (g.abs() + 1e-8), rtol=1e-3, atol=2e-5)
    assert all(p.grad is None for p in model.parameters()), "the gradients are not reset"


@pytest.mark.usefixtures("undrawn")
def test_the_learning_rate_follows_one_cycle(config, digits, monkeypatch):
    rates = []
    monkeypatch.setattr(vae, "set_learning_rate", lambda optimizer, rate: rates.append(rate))
    vae.train(replace(config, batch_size=500), digits)
    assert rates == [one_cycle(step, 6, config.learning_rate, warm_up=0.1) for step in range(6)]


@pytest.mark.usefixtures("undrawn")
def test_the_kl_weight_increases_linearly(config, digits, monkeypatch):
    assert [vae.kl_weight(step, 10, 0.4) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert vae.kl_weight(0, 10, 0) == 1
    seen, step = [], vae.train_step

    def watch(*arguments, beta, **settings):
        seen.append(beta)
        return step(*arguments, beta=beta, **settings)

    monkeypatch.setattr(vae, "train_step", watch)
    vae.train(replace(config, batch_size=500, beta=2.0, warm_up=0.5), digits)  # three steps per epoch, two epochs
    assert seen == pytest.approx([2 / 3, 4 / 3, 2, 2, 2, 2])


def test_bf16_is_used_by_the_layers_but_not_by_the_loss(digits):
    seen = []
    model = VAE(4, hidden=(8,))
    model.decoder[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    optimizer = vae.make_optimizer(model, 1e-3)
    x = pixels.fixed(digits.train.pixels[:8], "dynamic")
    for bf16 in (True, False):
        assert vae.train_step(model, optimizer, x, bf16=bf16).dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32]
    with torch.autocast("cpu", torch.bfloat16):
        logits, mu, logvar = model(x)
    assert logits.dtype == mu.dtype == logvar.dtype == torch.float32


def frames(film) -> int:
    return film.n_frames


def test_training_learns_is_repeatable_and_restores(config, digits):
    config = replace(config, epochs=25)
    first, second = vae.train(config, digits), vae.train(config, digits)
    mean_image = networks.log_odds(digits.train.pixels)
    test = pixels.fixed(digits.test.pixels, "dynamic")
    assert first["test_elbo"] > float(networks.log_bernoulli(mean_image, test).mean()) + 5, (
        "not better than the mean image"
    )
    assert first["test_elbo"] < first["test_bound_50"] <= first["test_log_likelihood"] < 0
    assert first["test_elbo"] == pytest.approx(first["test_reconstruction"] - first["test_kl"])
    same = {name for name in first if not name.endswith(("seconds", "per_second"))}
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    one, two = (vae.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    folder = next(config.run.out.rglob("model.safetensors")).parent
    assert vae.restore(folder)[1] == config
    for name in ("samples", "reconstructions", "interpolation", "traversal", "latent", "units", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    with Image.open(folder / "training.gif") as film:
        assert frames(film) == len({round(25 ** (number / 23)) for number in range(24)})


def test_a_resumed_run_has_the_same_weights_and_film(config, digits, monkeypatch):
    whole = vae.train(replace(config, epochs=4), digits)
    (reference,) = config.run.out.rglob("model.safetensors")
    elsewhere = replace(config, epochs=4, run=replace(config.run, out=config.run.out / "again"))
    take = Film.take

    def stop(film, epoch, draw):
        if epoch == 3:
            raise KeyboardInterrupt
        take(film, epoch, draw)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(Film, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        vae.train(elsewhere, digits)
    monkeypatch.setattr(Film, "take", take)
    again = vae.train(replace(elsewhere, run=replace(elsewhere.run, resume=True)), digits)
    assert again["test_elbo"] == whole["test_elbo"]
    (resumed,) = elsewhere.run.out.rglob("model.safetensors")
    assert resumed.read_bytes() == reference.read_bytes()
    assert resumed.with_name("training.gif").read_bytes() == reference.with_name("training.gif").read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_metrics_of_grey_levels_are_not_named_likelihood(config, digits):
    metrics = vae.train(replace(config, binarisation="none"), digits)
    assert metrics["test_grey_loss"] == pytest.approx(metrics["test_grey_reconstruction"] + metrics["test_kl"])
    assert metrics["test_grey_loss"] > 0
    assert not any("elbo" in name or "likelihood" in name or "bound" in name for name in metrics)
    (path,) = config.run.out.rglob("metrics.jsonl")
    row = json.loads(path.read_text().splitlines()[0])
    assert "valid_grey_loss" in row
    assert "valid_elbo" not in row


@pytest.mark.usefixtures("undrawn")
def test_training_does_not_use_the_test_set(config, digits):
    """Different test data give the same weights and validation metrics."""
    other_test = replace(digits, test=Split(255 - digits.test.pixels, digits.test.labels.flip(0)))
    for data in (digits, other_test):
        vae.train(config, data)
    one, two = (vae.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    (first, *_), (second, *_) = (p.read_text().splitlines() for p in config.run.out.rglob("metrics.jsonl"))
    assert json.loads(first)["valid_elbo"] == json.loads(second)["valid_elbo"]


@pytest.mark.parametrize("limit", [1, 2, 20])
def test_training_runs_with_very_few_images(config, limit):
    data = load_images("digits", limit=limit)
    for changes in ({"latent_size": 1}, {"latent_size": 2, "conditional": True}):
        assert vae.train(replace(config, **changes), data)["test_elbo"] < 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_size": 0}, "--latent-size must be a number above 0, got 0"),
        ({"hidden": ()}, "--hidden needs at least one layer"),
        ({"hidden": (8, 0)}, "--hidden must be a number above 0, got 0"),
        ({"beta": -1.0}, "--beta must not be negative, got -1.0"),
        ({"likelihood_images": 1}, "--likelihood-images must be at least 2, got 1"),
        ({"likelihood_images": 0}, "--likelihood-images must be at least 2, got 0"),
        ({"warm_up": 1.5}, "--warm-up must be between 0 and 1, got 1.5"),
        ({"importance_samples": 60}, "--importance-samples must be a multiple of 50 above 0, got 60"),
        ({"importance_samples": 0}, "--importance-samples must be a multiple of 50 above 0, got 0"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_convolutions_use_fewer_images_for_the_tightest_bound():
    assert Config().likelihood_images == 1_000
    assert Config(architecture="conv").likelihood_images == 200
    assert Config(architecture="conv", likelihood_images=7).likelihood_images == 7


@pytest.mark.data
@pytest.mark.slow
def test_two_epochs_on_a_third_of_mnist(real_data, options, monkeypatch):
    monkeypatch.setattr(vae.pictures, "report", lambda *_: None)
    config = Config(data="mnist", epochs=2, importance_samples=50, likelihood_images=20)
    metrics = vae.train(replace(config, run=replace(options, limit=20_000)))
    assert metrics["test_elbo"] > -150
    assert metrics["real_accuracy"] > 0.95
