"""The program rbm: binary pixels, training, metrics, linear probe, resuming; throughput compared with scikit-learn."""

import json
import math
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ch03_autoencoder_rbm.boltzmann import gibbs, rbm, rbm_throughput
from ch03_autoencoder_rbm.boltzmann.likelihood import exact_log_partition, log_likelihood
from ch03_autoencoder_rbm.boltzmann.rbm import Config
from common import checkpoint
from common.data.images.image_set import Split
from common.data.images.loading import load_images


@pytest.fixture
def config(options):
    return Config(data="digits", epochs=4, hidden_size=30, temperatures=50, run=options)


@pytest.fixture
def no_figures(monkeypatch):
    """Skip the figures, which take most of the time of a short run; one test checks them."""
    monkeypatch.setattr(rbm, "report", lambda *_: None)


def saved(config):
    return [rbm.restore(path.parent)[0] for path in sorted(config.run.out.rglob("model.safetensors"))]


def test_binary_pixels_are_thresholded_or_sampled():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(4_000, 1, 16, 16)
    assert torch.equal(rbm.binary(grey[:1], "threshold")[0], (torch.arange(256) > 127).float())
    torch.manual_seed(0)
    drawn = rbm.binary(grey, "stochastic")
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), torch.arange(256) / 255, rtol=0, atol=0.04)
    assert drawn[:, 0].max() == 0
    assert drawn[:, 255].min() == 1


@pytest.mark.usefixtures("no_figures")
def test_training_images_are_sampled_in_each_epoch_and_evaluation_images_once(digits, config, monkeypatch):
    pixels, cpu = digits.test.pixels, torch.device("cpu")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = rbm.fixed_binary(pixels, "stochastic", cpu)
    assert torch.equal(rbm.fixed_binary(pixels, "stochastic", cpu), first)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    batches = []
    step = gibbs.ContrastiveDivergence.step

    def record(learner, model, v0, learning_rate):
        batches.append(v0)
        return step(learner, model, v0, learning_rate)

    monkeypatch.setattr(gibbs.ContrastiveDivergence, "step", record)
    few = replace(digits, train=digits.train[:1])
    rbm.train(replace(config, epochs=2), few)
    assert len(batches) == 2
    assert not torch.equal(batches[0], batches[1])
    assert set(batches[0].unique().tolist()) == {0.0, 1.0}


def test_the_learner_has_the_settings_of_the_config(digits):
    pixels = rbm.intensities(digits.train.pixels)
    model = rbm.make_rbm(pixels, 5)
    torch.testing.assert_close(model.visible_bias.sigmoid(), pixels.mean(0), rtol=0, atol=0.003)
    settings = {"momentum": 0.2, "weight_decay": 0.1, "sparsity_target": 0.3, "sparsity_cost": 0.4, "centre": False}
    persistent = rbm.make_learner(model, Config(chains=7, gibbs_steps=3, **settings), bf16=True)
    assert {name: getattr(persistent, name) for name in settings} == settings
    assert persistent.steps == 3
    assert persistent.chains.shape == (7, 5)
    assert persistent.chains.dtype == persistent.sampler.weight.dtype == torch.bfloat16
    assert len(rbm.make_learner(model, Config(algorithm="cd", chains=7), bf16=False).chains) == 0


@pytest.mark.usefixtures("no_figures")
def test_learning_rate_decays_linearly_to_zero(digits, config, monkeypatch):
    rates = []
    step = gibbs.ContrastiveDivergence.step

    def record(learner, model, v0, learning_rate):
        rates.append(learning_rate)
        return step(learner, model, v0, learning_rate)

    monkeypatch.setattr(gibbs.ContrastiveDivergence, "step", record)
    rbm.train(replace(config, epochs=2, batch_size=500, learning_rate=0.6), digits)
    assert rates == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("algorithm", ["pcd", "cd"])
def test_training_learns_is_repeatable_and_restores(config, digits, algorithm):
    config = replace(config, algorithm=algorithm, epochs=30, hidden_size=10, temperatures=400)
    first, second = rbm.train(config, digits), rbm.train(config, digits)
    one, two = saved(config)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))
    assert all(first[name] == second[name] for name in first if "second" not in name)
    images = rbm.fixed_binary(digits.test.pixels, "stochastic", torch.device("cpu"))
    exact = log_likelihood(one, images, exact_log_partition(one))
    assert first["test_exact_log_likelihood"] == pytest.approx(exact)
    assert first["test_log_likelihood"] == pytest.approx(exact, abs=6 * first["annealing_error"] + 0.05)
    base = rbm.make_rbm(rbm.intensities(digits.train.pixels), 10)
    base.weight.zero_()
    assert exact > log_likelihood(base, images, exact_log_partition(base)) + 20
    assert first["test_accuracy"] > 0.5
    assert first["test_pixel_accuracy"] > 0.9
    _, restored = rbm.restore(next(config.run.out.rglob("model.safetensors")).parent)
    assert restored == config


@pytest.mark.usefixtures("no_figures")
def test_persistent_chains_and_velocities_are_in_the_checkpoint(config, digits):
    rbm.train(replace(config, chains=7), digits)
    (path,) = config.run.out.rglob("checkpoint.pt")
    learner = torch.load(path, weights_only=True)["parts"]["learner"]
    assert learner["chains"].shape == (7, 30)
    assert float(learner["chains"].std()) > 0.01
    assert float(learner["velocity.weight"].abs().max()) > 0


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_resumes_to_the_same_weights(config, digits, monkeypatch, precision):
    config = replace(config, run=replace(config.run, precision=precision))
    rbm.train(config, digits)
    save = checkpoint.save_checkpoint

    def stop(path, progress, *rest):
        save(path, progress, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("common.run.save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            rbm.train(config, digits)
    rbm.train(replace(config, run=replace(config.run, resume=True)), digits)
    one, two = saved(config)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))


@pytest.mark.usefixtures("no_figures")
def test_training_does_not_use_the_test_split(config, digits):
    """Training with another test split gives the same weights and validation metrics."""
    other_test = replace(digits, test=Split(255 - digits.test.pixels, digits.test.labels.flip(0)))
    real, wrong = (rbm.train(config, data) for data in (digits, other_test))
    one, two = saved(config)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))
    first, second = (path.read_text().splitlines()[-1] for path in config.run.out.rglob("metrics.jsonl"))
    for name in ("valid_pseudo_likelihood", "valid_free_energy_gap"):
        assert json.loads(first)[name] == json.loads(second)[name]
    for name in ("log_likelihood", "pseudo_likelihood", "accuracy", "pixel_accuracy"):
        assert real[f"test_{name}"] > wrong[f"test_{name}"]


@pytest.mark.usefixtures("no_figures")
def test_overfitting_increases_the_free_energy_gap(config, digits):
    """Train on ten images: they become more probable than validation images."""
    few = replace(digits, train=digits.train[:10], valid=digits.valid[:50], test=digits.test[:50])
    rbm.train(replace(config, epochs=200, batch_size=10, binarise="threshold", temperatures=2), few)
    (path,) = config.run.out.rglob("metrics.jsonl")
    gaps = [json.loads(line)["valid_free_energy_gap"] for line in path.read_text().splitlines()]
    assert gaps[-1] > gaps[0] + 20


def test_linear_probe_learns(digits):
    features = [rbm.intensities(split.pixels) for split in (digits.train, digits.valid, digits.test)]
    assert rbm.probe_accuracy(features, digits) > 0.9


def test_strength_of_the_linear_probe_is_chosen_on_the_validation_split(digits, monkeypatch):
    """The choice depends on the validation labels, even if another strength is better on the test split."""
    few = replace(digits, train=digits.train[:40])
    features = [rbm.intensities(split.pixels) for split in (few.train, few.valid, few.test)]
    accuracy = {}
    for strength in (1e-4, 1.0):
        monkeypatch.setattr(rbm, "PROBE_STRENGTHS", (strength,))
        accuracy[strength] = rbm.probe_accuracy(features, few)
    assert accuracy[1e-4] < accuracy[1.0]
    probe = LogisticRegression(C=1e-4, tol=1e-3).fit(features[0].numpy(), few.train.labels.numpy())
    monkeypatch.setattr(rbm, "PROBE_STRENGTHS", tuple(accuracy))
    assert rbm.probe_accuracy(features, few) == accuracy[1.0]
    labels = torch.from_numpy(probe.predict(features[1].numpy()))  # the weaker probe predicts all of these correctly
    misleading = replace(few, valid=Split(few.valid.pixels, labels))
    assert rbm.probe_accuracy(features, misleading) == accuracy[1e-4]


def test_workload_runs_on_the_given_device(config, monkeypatch):
    """Check with the meta device, on which operations with CPU tensors raise an error."""
    meta = torch.device("meta")
    monkeypatch.setattr(rbm, "base_rates", lambda pixels: torch.zeros(pixels.shape[1]))  # meta has no values to copy
    error = rbm.workload(config, meta).step()
    assert isinstance(error, torch.Tensor)
    assert error.device == meta


def test_filters_are_scaled_with_grey_as_zero():
    weights = torch.zeros(784, 2)
    weights[0], weights[1] = torch.tensor([-4.0, 0.1]), torch.tensor([2.0, 0.2])
    filters = rbm.as_filters(weights)
    assert filters.shape == (2, 1, 28, 28)
    assert filters[0].flatten()[:3].tolist() == [0.0, 0.75, 0.5]
    assert filters[1].flatten()[:3].tolist() == pytest.approx([0.75, 1.0, 0.5])
    assert rbm.as_filters(torch.zeros(784, 1)).unique().tolist() == [0.5]


@pytest.mark.figures
def test_figures_are_written(config, digits):
    rbm.train(config, digits)
    (folder,) = config.run.out.glob("*/rbm/*")
    for name in ("filters", "reconstructions", "samples", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_training_works_with_few_images(config, limit):
    metrics = rbm.train(replace(config, epochs=1), load_images("digits", limit=limit))
    assert math.isfinite(metrics["test_log_likelihood"])
    assert 0 <= metrics["test_accuracy"] <= 1


@pytest.mark.usefixtures("no_figures")
def test_divergence_is_one_clear_error(config, digits):
    with pytest.raises(FloatingPointError, match="lower --learning-rate"):
        rbm.train(replace(config, learning_rate=1e38, momentum=0.9), digits)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 0, "--hidden-size must be a number above 0, got 0"),
        ("gibbs_steps", 0, "--gibbs-steps must be a number above 0, got 0"),
        ("learning_rate", math.nan, "--learning-rate must be a number above 0, got nan"),
        ("momentum", 1.0, "--momentum must be at least 0 and below 1, got 1.0"),
        ("weight_decay", -0.1, "--weight-decay must be at least 0 and below 1, got -0.1"),
        ("sparsity_target", 1.0, "--sparsity-target must be between 0 and 1, got 1.0"),
        ("sparsity_cost", -1.0, "--sparsity-cost must not be negative, got -1.0"),
        ("annealed_chains", 1, "--annealed-chains must be at least 2, got 1"),
    ],
)
def test_errors_of_invalid_settings_name_the_flag(field, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Config(**{field: value})


def test_rbm_throughput_times_three_implementations(digits, options):
    config = rbm_throughput.Config(data="digits", hidden_size=20, rounds=2, images=300, run=options)
    metrics = rbm_throughput.train(config, digits)
    for name in ("sklearn", "fp32", "bf16"):
        assert metrics[f"{name}_images_per_second"] > 0
    for name in ("fp32", "bf16"):
        assert metrics[f"{name}_lowest_ratio"] <= metrics[f"{name}_ratio"] <= metrics[f"{name}_highest_ratio"]
    assert list(options.out.rglob("throughput.png"))
    summary = json.loads(next(options.out.rglob("summary.json")).read_text())
    assert "scikit-learn" in summary["versions"]
    assert summary["device"].endswith(", fp32 and bf16"), "--precision must be ignored"


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.usefixtures("no_figures")
def test_mnist_in_two_epochs(real_data, options):
    metrics = rbm.train(Config(data="mnist", epochs=2, hidden_size=100, temperatures=500, run=options))
    assert metrics["test_log_likelihood"] > -150
    assert metrics["test_accuracy"] > metrics["test_pixel_accuracy"]
