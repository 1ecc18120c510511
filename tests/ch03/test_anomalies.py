"""Anomaly detection with an autoencoder and an RBM: AUROC, scores, training without a class, resuming, bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ch03_autoencoder_rbm.boltzmann import anomalies
from ch03_autoencoder_rbm.boltzmann.anomalies import Config, auroc
from ch03_autoencoder_rbm.digits import autoencoder
from ch03_autoencoder_rbm.preprocessing import fixed_binary, intensities
from common.data.anomalies import baselines
from common.data.images.loading import load_images
from common.run import Run
from conftest import train_until

CPU = torch.device("cpu")


@pytest.fixture
def config(options):
    return Config(classes=(1, 4), code_size=6, hidden_size=8, epochs=2, batch_size=64, run=options)


@pytest.fixture
def few_trees(monkeypatch):
    monkeypatch.setattr(baselines.IsolationForests, "sizes", (2,))


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(anomalies, "report", lambda *_: None)


def make(config, data, held_out=4):
    with Run.open("ch03_autoencoder_rbm.boltzmann.anomalies", config, data.card) as run:
        return anomalies.make_detector(data.train, held_out, config, run)


def test_auroc_by_hand():
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8])
    assert auroc(scores, torch.tensor([False, False, True, True])) == 0.75
    assert auroc(scores, torch.tensor([True, False, False, False])) == 0
    assert auroc(scores, torch.tensor([False, False, False, True])) == 1
    ties = torch.tensor([1.0, 1.0, 2.0, 2.0, 0.0])
    assert auroc(ties, torch.tensor([True, False, False, True, False])) == (1.5 + 2.5) / 6
    assert auroc(torch.zeros(5), torch.tensor([True, False, False, True, False])) == 0.5


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_equals_that_of_scikit_learn(rows):
    scores, truth = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    if 0 < truth.sum() < len(truth):
        found = auroc(torch.from_numpy(scores), torch.from_numpy(truth))
        assert found == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_scores_equal_the_formulas(config, digits):
    torch.manual_seed(0)
    detector = make(config, digits)
    images = digits.test.pixels[:20]
    found = anomalies.score(detector, images)
    x = intensities(images)
    y = detector.autoencoder(x).detach()
    torch.testing.assert_close(found["autoencoder"], ((y - x) ** 2).mean(1))
    torch.testing.assert_close(found["relative"], ((y - x) ** 2).sum(1) / (x**2).sum(1))
    v, rbm = fixed_binary(images, "stochastic", CPU).double(), detector.rbm.double()
    energy = -v @ rbm.visible_bias - (1 + (rbm.hidden_bias + v @ rbm.weight).exp()).log().sum(1)
    torch.testing.assert_close(found["rbm"].double(), energy, rtol=1e-5, atol=1e-4)


def test_the_visible_biases_ignore_the_held_out_class(config, digits):
    detector = make(config, digits)
    pixels = intensities(digits.train.pixels[digits.train.labels != 4])
    torch.testing.assert_close(detector.rbm.visible_bias.sigmoid(), pixels.mean(0), rtol=0, atol=0.003)
    assert detector.autoencoder.encode(pixels[:2]).shape == (2, 6)
    assert len(detector.learner.chains) == 100 and detector.learner.centre and detector.learner.momentum == 0.5


def test_the_step_ignores_the_held_out_class_and_equals_the_steps_of_both_networks(config, digits):
    images, labels = digits.train.pixels[:40].clone(), digits.train.labels[:40]
    torch.manual_seed(3)
    one, two, three = (make(config, digits) for _ in range(3))
    losses = []
    for detector in (one, two):
        torch.manual_seed(0)
        losses.append(float(anomalies.train_step(detector, images, labels, done=0.25, config=config)))
        images[labels == 4] = 255
    assert losses[0] == losses[1]
    for a, b in zip(one.autoencoder.parameters(), two.autoencoder.parameters(), strict=True):
        assert torch.equal(a, b)
    normal = intensities(images[labels != 4])
    torch.manual_seed(0)
    v0 = anomalies.sample(normal)
    three.learner.step(three.rbm, v0, 0.075)
    loss = autoencoder.train_step(three.autoencoder, three.optimizer, normal, normal)
    assert float(loss) == losses[0]
    for part in ("autoencoder", "rbm"):
        same = zip(getattr(one, part).state_dict().values(), getattr(three, part).state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in same), part


def test_a_batch_of_the_held_out_class_alone_changes_nothing(config, digits):
    detector = make(config, digits)
    before = [p.clone() for p in [*detector.autoencoder.parameters(), *detector.rbm.buffers()]]
    images = digits.train.pixels[digits.train.labels == 4][:9]
    loss = anomalies.train_step(detector, images, torch.full((9,), 4), done=0.0, config=config)
    assert float(loss) == 0
    after = [*detector.autoencoder.parameters(), *detector.rbm.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_both_networks_learn_one_batch(config, digits):
    torch.manual_seed(0)
    detector = make(replace(config, hidden_size=30), digits)
    images, labels = digits.train.pixels[:32], digits.train.labels[:32]
    normal = images[labels != 4]
    random_images = torch.randint(256, normal.shape, dtype=torch.uint8)

    def learned():
        seen, noise = (anomalies.score(detector, part) for part in (normal, random_images))
        return float(seen["autoencoder"].mean()) < 0.015 and bool(seen["rbm"].max() < noise["rbm"].min() - 100)

    def step():
        anomalies.train_step(detector, images, labels, done=0.0, config=config)

    train_until(learned, step, at_most=1_500)


def test_noise_is_more_anomalous_than_digits_after_training(config, digits):
    torch.manual_seed(0)
    detector = make(config, digits)
    scores = {}
    for _ in range(30):
        anomalies.train_step(detector, digits.train.pixels[:200], digits.train.labels[:200], done=0.5, config=config)
    noise = torch.randint(256, (30, 1, 28, 28), dtype=torch.uint8)
    scores = anomalies.score(detector, torch.cat([digits.test.pixels[:30], noise]))
    truth = torch.arange(60) >= 30
    assert auroc(scores["autoencoder"], truth) == auroc(scores["rbm"], truth) == 1


@pytest.mark.usefixtures("few_trees")
@pytest.mark.figures
def test_a_run_is_repeatable_has_all_metrics_and_draws_its_figures(config, capsys):
    data = load_images("digits", limit=150)
    first, second = anomalies.train(config, data), anomalies.train(config, data)
    assert all(first[name] == second[name] for name in first if "second" not in name)
    for method in ("autoencoder", "relative", "rbm", "pca", "forest", "ink"):
        of_class = [first[f"held_out_{label}_{method}_auroc"] for label in (1, 4)]
        assert first[f"test_{method}_auroc"] == pytest.approx(sum(of_class) / 2)
        assert all(0 <= value <= 1 for value in of_class)
    truth = (data.test.labels == 4).numpy()
    expected = roc_auc_score(truth, data.test.pixels.flatten(1).float().mean(1).numpy())
    assert first["held_out_4_ink_auroc"] == pytest.approx(expected)
    assert first["forest_trees"] == 2 and first["pca_components"] in baselines.COMPONENTS
    folder = next(config.run.out.glob("*/anomalies/*"))
    for name in ("auroc", "autoencoder_extremes", "relative_extremes", "rbm_extremes", "histograms", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"valid_autoencoder_auroc", "valid_relative_auroc", "valid_rbm_auroc"} <= set(rows[-1])
    output = capsys.readouterr().out
    assert "AUROC on the test set" in output and "held out" in output


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


@pytest.mark.usefixtures("no_figures", "few_trees")
def test_rates_follow_their_schedules(config, monkeypatch):
    seen = []
    step = anomalies.train_step

    def record(detector, images, labels, *, done, **named):
        seen.append((detector.held_out, detector.optimizer.param_groups[0]["lr"], done))
        return step(detector, images, labels, done=done, **named)

    monkeypatch.setattr(anomalies, "train_step", record)
    anomalies.train(replace(config, batch_size=75), load_images("digits", limit=150))
    assert [label for label, *_ in seen] == [1, 4] * 4
    assert [done for *_, done in seen[::2]] == [0, 0.25, 0.5, 0.75]
    assert [rate for _, rate, _ in seen[::2]] == pytest.approx([4e-3, 4e-3, 3e-3, 1e-3])


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
        ({"code_size": 0}, "--code-size must be a number above 0, got 0"),
        ({"rbm_rate": -1.0}, "--rbm-rate must be a number above 0"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        Config(**bad)
    assert (Config().hidden_size, Config(data="mnist").hidden_size) == (100, 500)


def test_a_class_that_does_not_exist_is_rejected_before_the_run_starts(config):
    with pytest.raises(ValueError, match="--classes must be between 0 and 9, got 12"):
        anomalies.train(replace(config, classes=(12,)))
    assert not config.run.out.exists()


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.usefixtures("no_figures")
def test_mnist_in_one_epoch(real_data, config):
    limited = replace(config, data="mnist", classes=(0,), epochs=1, run=replace(config.run, limit=10_000))
    metrics = anomalies.train(replace(limited, code_size=32, hidden_size=100))
    assert metrics["test_autoencoder_auroc"] > 0.7
