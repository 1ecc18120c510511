"""Samples and interpolations of sample.py, from trained VAEs."""

import json
from dataclasses import replace

import pytest
import torch

from ch08_vae import preprocessing as pixels
from ch08_vae import sample
from ch08_vae.autoencoding import vae
from ch08_vae.autoencoding.vae import Config
from ch08_vae.evaluation.classifier import accuracy, fit_classifier
from common.config import RunOptions
from common.data.images.loading import load_images
from common.run_folders.folder import newest_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with an unconditional and a conditional run, trained until the classifier recognises their digits."""
    out = tmp_path_factory.mktemp("runs")
    for name, conditional in (("plain", False), ("conditional", True)):
        options = RunOptions(device="cpu", precision="fp32", threads=1, out=out / name)
        config = Config(
            data="digits", epochs=60, latent_size=2, hidden=(128, 64), conditional=conditional,
            importance_samples=50, likelihood_images=5, run=options,
        )  # fmt: skip
        vae.train(config, load_images("digits"))
    return out


def summary(folder):
    return json.loads(next(folder.rglob("summary.json")).read_text())["metrics"]


def test_a_conditional_model_generates_the_given_class(runs):
    metrics = summary(runs / "conditional")
    assert metrics["real_accuracy"] > 0.9
    assert metrics["sample_accuracy"] > 0.8
    assert metrics["sample_classes"] == 10
    assert "sample_accuracy" not in summary(runs / "plain")


def test_the_latent_plane_of_two_units_is_drawn(runs):
    for name in ("plain", "conditional"):
        assert len(list((runs / name).rglob("manifold.png"))) == 1


def watch_mosaic(monkeypatch):
    """Record the images and settings of plots.mosaic."""
    from common.drawing import plots

    seen = {}
    mosaic = plots.mosaic

    def watch(images, **settings):
        seen["images"], seen["settings"] = images, settings
        return mosaic(images, **settings)

    monkeypatch.setattr(plots, "mosaic", watch)
    return seen


def test_the_command_generates_the_given_number_of_samples(runs, tmp_path, capsys, monkeypatch):
    seen = watch_mosaic(monkeypatch)
    sample.main(["--count", "5", "--out", str(runs / "plain"), "--picture", str(tmp_path / "five.png")])
    assert len(seen["images"]) == 5
    assert (tmp_path / "five.png").read_bytes()[:4] == b"\x89PNG"
    assert capsys.readouterr().out.startswith("model    mlp VAE, 2 latent units, from ")
    first = seen["images"]
    sample.main(["--count", "5", "--out", str(runs / "plain")])
    assert torch.equal(first, seen["images"]), "the same seed gives different samples"
    sample.main(["--count", "5", "--seed", "1", "--out", str(runs / "plain")])
    assert not torch.equal(first, seen["images"])
    assert len(list((runs / "plain").rglob("sample.png"))) == 1


def test_samples_of_a_given_class_are_classified_correctly(runs, digits, monkeypatch):
    seen = watch_mosaic(monkeypatch)
    classifier = fit_classifier(digits, torch.device("cpu"))
    for digit in (0, 6):
        sample.main(["--digit", str(digit), "--count", "40", "--out", str(runs / "conditional")])
        assert accuracy(classifier, seen["images"].flatten(1), torch.full((40,), digit)) > 0.7
    assert len(list((runs / "conditional").rglob("sample-6.png"))) == 1


@pytest.mark.parametrize("name", ["plain", "conditional"])
def test_interpolations_start_and_end_at_reconstructions(runs, name, digits, monkeypatch):
    seen = watch_mosaic(monkeypatch)
    sample.main(["--interpolate", "3", "8", "--count", "2", "--out", str(runs / name)])
    assert len(seen["images"]) == 2 * sample.STEPS
    model, config = vae.restore(newest_run(runs / name, vae))
    ends = []
    for digit in (3, 8):
        of_class = (digits.test.labels == digit).nonzero().flatten()
        x = pixels.fixed(digits.test.pixels, "dynamic")[of_class]
        ends.append(
            torch.sigmoid(model.decode(model.encode(x, condition(x, digit, config))[0], condition(x, digit, config)))
        )
    for place, candidates in ((0, ends[0]), (sample.STEPS - 1, ends[1])):
        distance = (candidates.detach() - seen["images"][place].flatten()).abs().amax(1)
        assert float(distance.min()) < 1e-5


def condition(x, digit, config):
    return vae.one_hot(torch.full((len(x),), digit), config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--digit", "7"],
            "--digit needs a conditional model: train one with python -m ch08_vae.train vae --conditional, "
            "or name the folder of such a run with --folder",
        ),
        (["--digit", "10"], "--digit and --interpolate take classes from 0 to 9, got 10"),
        (["--interpolate", "3", "11"], "--digit and --interpolate take classes from 0 to 9, got 11"),
        (["--digit", "7", "--interpolate", "3", "8"], "--digit and --interpolate cannot be used together, got both"),
        (["--picture", "drawing"], "--picture must be a file name with an extension, such as samples.png, got drawing"),
        (["--count", "0"], "--count must be a number above 0, got 0"),
        (["--cont", "3"], "did you mean --count?"),
    ],
)
def test_invalid_options_are_reported_in_one_line(fails, runs, words, message):
    assert message in fails(sample.main, [*words, "--out", str(runs / "plain")])


def test_a_class_without_test_images_is_reported(fails, runs, monkeypatch):
    data = load_images("digits")
    rest = replace(data, test=data.test[(data.test.labels != 3).nonzero().flatten()])
    monkeypatch.setattr(sample, "load_images", lambda name: rest)
    error = fails(sample.main, ["--interpolate", "3", "8", "--out", str(runs / "plain")])
    assert "--interpolate needs test images of class 3, got none" in error


def test_without_a_run_the_error_names_the_training_command(fails, tmp_path):
    assert "train one with python -m ch08_vae.train vae" in fails(sample.main, ["--out", str(tmp_path)])


def test_a_different_version_of_the_data_is_rejected(fails, runs, monkeypatch):
    monkeypatch.setattr("common.data.images.loading.SPLIT_SEED", 1)
    error = fails(sample.main, ["--interpolate", "3", "8", "--out", str(runs / "plain")])
    assert "was trained on a different version of digits: train again" in error
