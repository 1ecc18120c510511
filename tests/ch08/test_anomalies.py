"""Anomaly detection with a VAE: AUROC, scores, training without a class, resuming, bad input."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ch08_vae.autoencoding import anomalies, vae
from ch08_vae.autoencoding.anomalies import Config, auroc
from ch08_vae.autoencoding.networks import log_odds
from ch08_vae.preprocessing import fixed
from common.data.anomalies import baselines
from common.data.images.loading import load_images
from conftest import train_until

CPU = torch.device("cpu")


@pytest.fixture
def config(options):
    return Config(classes=(1, 4), latent_size=3, hidden=(16,), epochs=2, batch_size=64, samples=4, run=options)


@pytest.fixture
def few_trees(monkeypatch):
    monkeypatch.setattr(baselines.IsolationForests, "sizes", (2,))


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(anomalies, "report", lambda *_: None)


def test_auroc_by_hand():
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8])
    assert auroc(scores, torch.tensor([False, False, True, True])) == 0.75
    ties = torch.tensor([1.0, 1.0, 2.0, 2.0, 0.0])
    assert auroc(ties, torch.tensor([True, False, False, True, False])) == (1.5 + 2.5) / 6


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_equals_that_of_scikit_learn(rows):
    scores, truth = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    if 0 < truth.sum() < len(truth):
        found = auroc(torch.from_numpy(scores), torch.from_numpy(truth))
        assert found == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_scores_equal_the_formulas(config, digits):
    torch.manual_seed(0)
    detector = anomalies.make_detector(digits.train, 4, config, CPU)
    model = detector.model
    images, K = digits.test.pixels[:6], 5
    torch.manual_seed(1)
    found = anomalies.score(detector, images, K)
    x = fixed(images, "dynamic")
    with torch.no_grad():
        mu, logvar = model.encode(x)
        torch.manual_seed(1)
        z = mu[:, None] + (logvar / 2).exp()[:, None] * torch.randn(6, K, 3)
        p = model.decode(z.flatten(0, 1)).sigmoid().view(6, K, 784).double()
    log_likelihood = (x[:, None] * p.log() + (1 - x[:, None]) * (1 - p).log()).sum(2)
    prior = torch.distributions.Normal(0, 1).log_prob(z).sum(2)
    posterior = torch.distributions.Normal(mu[:, None], (logvar / 2).exp()[:, None]).log_prob(z).sum(2)
    log_w = log_likelihood + prior - posterior
    normal = digits.train.pixels[digits.train.labels != 4]
    mean = (normal.flatten(1).double().div(255).sum(0) + 0.5) / (len(normal) + 1)
    independent = (x * mean.log() + (1 - x) * (1 - mean).log()).sum(1)
    kl = (mu**2 + logvar.exp() - 1 - logvar).sum(1) / 2
    expected = {
        "elbo": -log_w.mean(1),
        "bound": -(log_w.logsumexp(1) - math.log(K)),
        "reconstruction": -log_w.mean(1) - kl,
        "ratio": independent - (log_w.logsumexp(1) - math.log(K)),
    }
    for name, values in expected.items():
        torch.testing.assert_close(found[name].double(), values, rtol=1e-5, atol=1e-3)
    assert (found["bound"] <= found["elbo"] + 1e-4).all(), "the bound is tighter"


def test_scores_do_not_depend_on_the_chunks(config, digits, monkeypatch):
    detector = anomalies.make_detector(digits.train, 4, config, CPU)
    monkeypatch.setattr(
        torch, "randn", lambda *shape, **_: torch.linspace(-1, 1, shape[1]).view(1, -1, 1).expand(shape)
    )
    whole = anomalies.score(detector, digits.test.pixels[:7], 4)
    monkeypatch.setattr(anomalies, "ROWS", 12)
    few = anomalies.score(detector, digits.test.pixels[:7], 4)
    for name, values in whole.items():
        torch.testing.assert_close(few[name], values, rtol=1e-4, atol=1e-3)


def test_the_output_bias_ignores_the_held_out_class(config, digits):
    detector = anomalies.make_detector(digits.train, 4, config, CPU)
    expected = log_odds(digits.train.pixels[digits.train.labels != 4])
    torch.testing.assert_close(detector.model.decoder[-1].bias.data, expected)
    assert detector.optimizer.param_groups[0]["lr"] == 4e-3


def test_the_step_ignores_the_held_out_class_and_equals_that_of_the_vae(config, digits):
    images, labels = digits.train.pixels[:40].clone(), digits.train.labels[:40]
    torch.manual_seed(3)
    detectors = []
    for _ in range(3):
        torch.manual_seed(3)
        detectors.append(anomalies.make_detector(digits.train, 4, config, CPU))
    one, two, three = detectors
    losses = []
    for detector in (one, two):
        torch.manual_seed(0)
        losses.append(float(anomalies.train_step(detector, images, labels, beta=0.3)))
        images[labels == 4] = 255
    torch.manual_seed(0)
    x = anomalies.binarised(images[labels != 4], "dynamic")
    losses.append(float(vae.train_step(three.model, three.optimizer, x, beta=0.3)))
    assert losses[0] == losses[1] == losses[2]
    for a, b, c in zip(one.model.parameters(), two.model.parameters(), three.model.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_a_batch_of_the_held_out_class_alone_changes_nothing(config, digits):
    detector = anomalies.make_detector(digits.train, 4, config, CPU)
    before = [p.detach().clone() for p in detector.model.parameters()]
    images = digits.train.pixels[digits.train.labels == 4][:9]
    assert float(anomalies.train_step(detector, images, torch.full((9,), 4))) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, detector.model.parameters(), strict=True))


def test_one_batch_is_learned(config, digits):
    torch.manual_seed(0)
    detector = anomalies.make_detector(digits.train, 4, replace(config, hidden=(64,)), CPU)
    images, labels = digits.train.pixels[:16], digits.train.labels[:16]
    normal = images[labels != 4]

    def learned():
        scores = anomalies.score(detector, torch.cat([normal, 255 - normal]), 4)
        del scores["ratio"]
        return all(
            float(values[: len(normal)].max()) < 200 < float(values[len(normal) :].min()) for values in scores.values()
        )

    train_until(learned, lambda: anomalies.train_step(detector, images, labels), at_most=1_500)


@pytest.mark.usefixtures("few_trees")
@pytest.mark.figures
def test_a_run_is_repeatable_has_all_metrics_and_draws_its_figures(config, capsys):
    data = load_images("digits", limit=150)
    first, second = anomalies.train(config, data), anomalies.train(config, data)
    assert all(first[name] == second[name] for name in first if "second" not in name)
    for method in ("elbo", "bound", "reconstruction", "ratio", "pca", "forest", "ink"):
        of_class = [first[f"held_out_{label}_{method}_auroc"] for label in (1, 4)]
        assert first[f"test_{method}_auroc"] == pytest.approx(sum(of_class) / 2)
        assert all(0 <= value <= 1 for value in of_class)
    truth = (data.test.labels == 4).numpy()
    expected = roc_auc_score(truth, data.test.pixels.flatten(1).float().mean(1).numpy())
    assert first["held_out_4_ink_auroc"] == pytest.approx(expected)
    assert first["forest_trees"] == 2 and first["pca_components"] in baselines.COMPONENTS
    folder = next(config.run.out.glob("*/anomalies/*"))
    for name in ("auroc", "bound_extremes", "ratio_extremes", "histograms", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {f"valid_{name}_auroc" for name in ("elbo", "bound", "reconstruction", "ratio")} <= set(rows[-1])
    assert "AUROC on the test set" in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures", "few_trees")
def test_the_weight_of_the_kl_term_and_the_learning_rate_follow_their_schedules(config, monkeypatch):
    seen = []
    step = anomalies.train_step

    def record(detector, images, labels, *, beta, **named):
        seen.append((detector.held_out, detector.optimizer.param_groups[0]["lr"], beta))
        return step(detector, images, labels, beta=beta, **named)

    monkeypatch.setattr(anomalies, "train_step", record)
    anomalies.train(replace(config, batch_size=75, warm_up=1.0), load_images("digits", limit=150))
    assert [label for label, *_ in seen] == [1, 4] * 4
    assert [beta for *_, beta in seen[::2]] == [0.25, 0.5, 0.75, 1]
    assert [rate for _, rate, _ in seen[::2]] == pytest.approx([4e-3, 4e-3, 3e-3, 1e-3])


@pytest.mark.usefixtures("no_figures", "few_trees")
def test_a_resumed_run_has_the_same_scores(config, monkeypatch):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    data, config = load_images("digits", limit=150), replace(config, epochs=3)
    whole = anomalies.train(config, data)
    elsewhere = replace(config, run=replace(config.run, out=config.run.out / "again"))
    step, calls = anomalies.train_step, []

    def stop(*arguments, **named):
        calls.append(1)
        if len(calls) == 15:  # six calls per epoch
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(anomalies, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        anomalies.train(elsewhere, data)
    monkeypatch.setattr(anomalies, "train_step", step)
    resumed = anomalies.train(replace(elsewhere, run=replace(elsewhere.run, resume=True)), data)
    assert all(whole[name] == resumed[name] for name in whole if "second" not in name)


def test_the_benchmark_step_runs(config):
    workload = anomalies.workload(config, CPU)
    loss = workload.step()
    assert isinstance(loss, torch.Tensor) and float(loss) > 0
    assert workload.items == 64


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"classes": ()}, "--classes needs at least one class, got none"),
        ({"classes": (1, 1)}, r"--classes must differ, got \(1, 1\)"),
        ({"samples": 0}, "--samples must be a number above 0, got 0"),
        ({"samples": 3_000}, "--samples must be at most 2000, got 3000"),
        ({"hidden": ()}, "--hidden needs at least one layer"),
        ({"warm_up": 1.5}, "--warm-up must be between 0 and 1"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        Config(**bad)


def test_a_class_that_does_not_exist_is_rejected_before_the_run_starts(config):
    with pytest.raises(ValueError, match="--classes must be between 0 and 9, got 12"):
        anomalies.train(replace(config, classes=(12,)))
    assert not config.run.out.exists()


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.usefixtures("no_figures")
def test_mnist_in_one_epoch(real_data, config):
    limited = replace(config, data="mnist", classes=(0,), epochs=1, run=replace(config.run, limit=10_000))
    metrics = anomalies.train(replace(limited, latent_size=20, hidden=(128,)))
    assert metrics["test_bound_auroc"] > 0.7
