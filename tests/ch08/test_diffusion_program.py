"""Diffusion program, its samples on the command line, and the comparison of generators."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from ch08_vae import sample
from ch08_vae.diffusion import diffusion, pictures
from ch08_vae.diffusion.diffusion import Config, dropped, make_model, make_optimizer, noise_error, scaled, train_step
from ch08_vae.diffusion.sampling import Sampler
from ch08_vae.diffusion.schedule import make_schedule
from ch08_vae.evaluation import compare_generators
from ch08_vae.film import Film, write_gif
from common.averaging import WeightAverage
from common.config import RunOptions, changed_flags
from common.data.images.loading import load_images
from conftest import train_until


def frames(film) -> int:
    return film.n_frames


SMALL: dict = {"data": "digits", "epochs": 2, "width": 8, "batch_size": 32, "timesteps": 50, "sampling_steps": 3}


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    monkeypatch.setattr(diffusion, "MONITORED", 50)
    monkeypatch.setattr(diffusion, "QUICK", Sampler(steps=2))
    monkeypatch.setattr("ch08_vae.evaluation.classifier.STEPS", 30)


@pytest.fixture
def config(options):
    return Config(**SMALL, run=options)


@pytest.fixture(scope="module")
def few():
    return load_images("digits", limit=64)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, few):
    """Folder with a short run with classes and one without."""
    out = tmp_path_factory.mktemp("diffusion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion, "MONITORED", 50)
        patch.setattr(diffusion, "QUICK", Sampler(steps=2))
        patch.setattr(pictures, "report", lambda *_: None)
        for name in ("class", "none"):
            options = RunOptions(device="cpu", precision="fp32", threads=1, out=out / name)
            diffusion.train(Config(**{**SMALL, "epochs": 1}, condition=name, run=options), few)
    return out


# Training.


def test_sixteen_digits_are_learned_with_their_classes(digits):
    torch.manual_seed(0)
    config = Config(width=8, timesteps=100)
    schedule, model = make_schedule("cosine", 100), make_model(config, 1)
    optimizer, split = make_optimizer(model, 5e-3), digits.train[:16]
    x_0, losses = scaled(split.pixels), []
    train_until(
        lambda: noise_error(model, schedule, split, config) < 0.2,
        lambda: losses.append(float(train_step(model, optimizer, schedule, x_0, split.labels))),
        at_most=1_000,
        every=20,
    )
    assert losses[0] == pytest.approx(1, abs=0.1), "the network starts at zero, and the noise has variance 1"


def test_a_step_is_one_adamw_update_of_the_mean_squared_error(digits):
    schedule, x_0, labels = make_schedule("cosine", 50), scaled(digits.train.pixels[:8]), digits.train.labels[:8]
    torch.manual_seed(1)
    model, reference = make_model(Config(width=8), 1), make_model(Config(width=8), 1)
    torch.nn.init.normal_(model.last.weight, std=0.1)
    reference.load_state_dict(model.state_dict())
    torch.manual_seed(2)
    loss = train_step(model, make_optimizer(model, 1e-3), schedule, x_0, labels)
    assert all(p.grad is None for p in model.parameters())
    torch.manual_seed(2)
    t = torch.randint(1, 51, (8,))
    epsilon = torch.randn_like(x_0)
    abar = schedule.abar[t].view(-1, 1, 1, 1)
    expected = (reference(abar.sqrt() * x_0 + (1 - abar).sqrt() * epsilon, t, labels) - epsilon).square().mean()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    (gradient,) = torch.autograd.grad(expected, reference.last.weight)
    big = gradient.abs() > 1e-5  # the sign of smaller ones depends on rounding
    moved = (model.last.weight - reference.last.weight * (1 - 1e-3 * 0.01)).detach()
    torch.testing.assert_close(moved[big], -1e-3 * gradient.sign()[big], rtol=1e-2, atol=1e-6)


def test_all_times_from_the_first_to_the_last_are_trained(digits, monkeypatch):
    seen = []
    real = diffusion.add_noise
    monkeypatch.setattr(diffusion, "add_noise", lambda s, x, t, e: seen.extend(t.tolist()) or real(s, x, t, e))
    model = make_model(Config(width=8), 1)
    optimizer, x_0 = make_optimizer(model, 1e-3), scaled(digits.train.pixels[:100])
    train_step(model, optimizer, make_schedule("cosine", 5), x_0, digits.train.labels[:100])
    assert set(seen) == {1, 2, 3, 4, 5}


def test_pixels_and_classes_of_a_training_step(config):
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert scaled(levels).flatten().tolist() == [-1, 1]
    labels = torch.arange(20_000) % 10
    found = dropped(labels, replace(config, drop_class=0.25))
    assert float((found == 10).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(found[found != 10], labels[found != 10])
    assert bool((dropped(labels, Config(condition="none")) == 10).all())
    assert torch.equal(dropped(labels, replace(config, drop_class=0.0, guidance=1.0)), labels)


def test_training_writes_its_files_is_repeatable_and_restores(config, few):
    config = replace(config, compare=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion, "STEP_COUNTS", (1, 2))
        patch.setattr(diffusion, "GUIDANCE_SCALES", (0, 2))
        first = diffusion.train(config, few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "report", lambda *_: None)
        second = diffusion.train(replace(config, compare=False), few)
    for name in ("test_loss", "sample_frechet_distance", "sample_accuracy", "real_precision"):
        assert first[name] >= 0
    assert {"steps_2_frechet_distance", "guidance_0_frechet_distance", "guidance_2_accuracy"} <= set(first)
    assert second["test_loss"] == first["test_loss"]
    assert second["sample_frechet_distance"] == first["sample_frechet_distance"]
    folders = [path.parent for path in sorted(config.run.out.rglob("model.safetensors"))]
    (model, schedule, restored), (other, _, _) = (diffusion.restore(folder) for folder in folders)
    assert restored == config and schedule.steps == 50
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert noise_error(model, schedule, few.test, config) == pytest.approx(first["test_loss"], rel=1e-6)
    pngs = {path.stem for path in folders[0].glob("*.png")}
    assert {"samples", "path", "training", "samplers", "curves"} <= pngs
    with Image.open(folders[0] / "denoising.gif") as film:
        assert frames(film) == 4  # noise, and three steps
    rows = [json.loads(line) for line in (folders[0] / "metrics.jsonl").read_text().splitlines()]
    assert all({"valid_loss", "valid_classes", "valid_frechet_distance"} <= set(row) for row in rows)


def test_the_average_of_the_weights_generates_and_is_saved(config, few, monkeypatch):
    monkeypatch.setattr(pictures, "report", lambda *_: None)
    averages = []
    init = WeightAverage.__init__
    monkeypatch.setattr(WeightAverage, "__init__", lambda self, *a: (init(self, *a), averages.append(self))[0])
    diffusion.train(replace(config, averaging=0.9), few)
    (path,) = config.run.out.rglob("model.safetensors")
    saved = diffusion.restore(path.parent)[0].state_dict()
    (average,) = averages
    assert average.steps == 4 and average.decay == 0.9
    assert all(torch.equal(saved[name], value) for name, value in average.model.state_dict().items())


@pytest.mark.slow
def test_a_resumed_run_has_the_same_weights(config, few, monkeypatch):
    monkeypatch.setattr(pictures, "report", lambda *_: None)
    config = replace(config, epochs=3)
    diffusion.train(config, few)
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
        diffusion.train(elsewhere, few)
    monkeypatch.setattr(Film, "take", take)
    diffusion.train(replace(elsewhere, run=replace(elsewhere.run, resume=True)), few)
    (resumed,) = elsewhere.run.out.rglob("model.safetensors")
    assert resumed.read_bytes() == reference.read_bytes()


def test_a_schedule_of_two_steps(config, monkeypatch):
    monkeypatch.setattr(pictures, "report", lambda *_: None)
    monkeypatch.setattr(diffusion, "QUICK", Sampler(steps=10))
    few = load_images("digits", limit=10)
    metrics = diffusion.train(replace(config, timesteps=2, sampling_steps=1, epochs=1, compare=True), few)
    assert all(math.isfinite(value) for value in metrics.values())
    assert "steps_2_accuracy" in metrics and "steps_5_accuracy" not in metrics


@pytest.mark.slow
def test_colour_images_without_a_classifier(config):
    shapes = load_images("shapes", limit=40)
    metrics = diffusion.train(replace(config, data="shapes", epochs=1), shapes)
    assert "test_loss" in metrics and "sample_frechet_distance" not in metrics
    (path,) = config.run.out.rglob("model.safetensors")
    model, _, restored = diffusion.restore(path.parent)
    assert diffusion.image_shape(restored) == (3, 32, 32) and model.first.in_channels == 12
    sample.main(["--folder", str(path.parent), "--count", "3", "--steps", "2"])
    assert (path.parent / "sample.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timesteps": 10}, "--sampling-steps must be at most the 10 steps of the noising process, got 20"),
        ({"timesteps": 1}, "--timesteps must be at least 2, got 1"),
        ({"eta": 1.5}, "--eta must be between 0 and 1, got 1.5"),
        ({"guidance": -1.0}, "--guidance must not be negative, got -1.0"),
        ({"guidance": float("nan")}, "--guidance must not be negative, got nan"),
        (
            {"condition": "none", "guidance": 2.0},
            r"--guidance needs a model with classes \(--condition class\), got 2.0",
        ),
        ({"drop_class": 0.0}, "--drop-class must be above 0, got 2.0"),
        ({"drop_class": 1.0}, "--drop-class must be at least 0 and below 1, got 1.0"),
        ({"averaging": 1.0}, "--averaging must be at least 0 and below 1, got 1.0"),
        ({"sampling_steps": 0}, "--sampling-steps must be a number above 0, got 0"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_guidance_follows_the_condition():
    assert Config().guidance == 2.0 and Config(condition="none").guidance == 0.0
    assert changed_flags(Config(condition="none")) == ["--condition", "none"]


def test_the_training_step_of_the_benchmark():
    loss: Any = diffusion.workload(Config(width=8, batch_size=4), torch.device("cpu")).step()
    assert float(loss) > 0


def test_a_film_in_colour(tmp_path):
    pages = [("t = 2", torch.zeros(10, 3, 5, 4, dtype=torch.uint8)), ("t = 1", torch.full((10, 3, 5, 4), 255).byte())]
    write_gif(tmp_path / "film.gif", pages)
    with Image.open(tmp_path / "film.gif") as film:
        assert frames(film) == 2 and film.size == (2 * 10 * 6, 2 * 7 + 16)
        film.seek(1)
        assert film.convert("RGB").getpixel((8, 24)) == (255, 255, 255)


# The command.


def watch_mosaic(monkeypatch):
    from common.drawing import plots

    seen = {}
    mosaic = plots.mosaic
    monkeypatch.setattr(
        plots, "mosaic", lambda images, **how: seen.update(images=images, **how) or mosaic(images, **how)
    )
    return seen


def test_the_command_samples_a_diffusion_model(runs, capsys, monkeypatch):
    seen, classes = watch_mosaic(monkeypatch), []
    real = sample.generate
    monkeypatch.setattr(sample, "generate", lambda *a, **k: classes.append((a[3].tolist(), a[4])) or real(*a, **k))
    words = ["--digit", "7", "--guidance", "3", "--steps", "4", "--count", "6", "--out", str(runs / "class")]
    sample.main(words)
    assert capsys.readouterr().out.startswith("model    diffusion model, 4 DDIM steps, guidance 3, eta 0, from ")
    assert classes[0] == ([7] * 6, Sampler("ddim", 4, 0.0, 3.0))
    first = seen["images"]
    assert first.shape == (6, 1, 28, 28)
    sample.main(words)
    assert torch.equal(first, seen["images"]), "the same seed gives different samples"
    sample.main([*words, "--seed", "1"])
    assert not torch.equal(first, seen["images"])
    sample.main(["--count", "12", "--out", str(runs / "class")])
    assert classes[-1] == ([*range(10), 0, 1], Sampler("ddim", 3, 0.0, 2.0))
    assert len(list((runs / "class").rglob("sample-7.png"))) == 1
    sample.main(["--count", "2", "--out", str(runs / "none")])
    assert classes[-1] == ([10, 10], Sampler("ddim", 3, 0.0, 0.0))


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("class", ["--steps", "51"], "--steps must be at most 50, the steps of the noising process of "),
        ("class", ["--steps", "0"], "--steps must be a number above 0, got 0"),
        ("class", ["--digit", "10"], "--digit and --interpolate take classes from 0 to 9, got 10"),
        ("class", ["--eta", "2"], "--eta must be between 0 and 1, got 2.0"),
        ("none", ["--guidance", "2"], "--guidance needs a model with classes (--condition class), got 2.0"),
        (
            "none",
            ["--digit", "7"],
            "--digit needs a conditional model: train one with python -m ch08_vae.train diffusion",
        ),
        (
            "class",
            ["--interpolate", "3", "8", "--eta", "1"],
            "--interpolate needs a VAE, --guidance, --steps and --eta",
        ),
    ],
)
def test_invalid_options_are_reported_in_one_line(fails, runs, name, words, message):
    assert message in fails(sample.main, [*words, "--out", str(runs / name)])


def test_the_folder_decides_which_program_is_sampled(fails, runs, tmp_path):
    (folder,) = [path.parent for path in (runs / "class").rglob("model.safetensors")]
    error = fails(sample.main, ["--interpolate", "3", "8", "--folder", str(folder)])
    assert f"--interpolate needs a run of the vae program: {folder} has a diffusion model" in error
    assert "train one with python -m ch08_vae.train diffusion" in fails(
        sample.main, ["--guidance", "2", "--out", str(tmp_path)]
    )


# The comparison.


def test_generators_are_trained_for_the_same_time_and_compared(options, few, capsys):
    config = compare_generators.Config(data="digits", budget=0.4, measurements=2, run=options)
    metrics = compare_generators.train(config, few)
    for name in ("vae", "conditional_vae", "gan", "diffusion", "real"):
        assert metrics[f"{name}_frechet_distance"] > 0
        assert (f"{name}_accuracy" in metrics) == (name in ("conditional_vae", "diffusion", "real"))
        assert name == "real" or metrics[f"{name}_steps"] >= 1
    (folder,) = [path.parent for path in options.out.rglob("summary.json")]
    assert {"generators.png", "training.png"} <= {path.name for path in folder.iterdir()}
    assert "conditional VAE" in capsys.readouterr().out


def test_a_contestant_counts_only_its_own_training_time(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(compare_generators.time, "perf_counter", lambda: float(next(clock)))
    shares = []
    contestant = compare_generators.Contestant(shares.append, lambda count: torch.zeros(count, 784))
    contestant.train(2.0, 4.0, torch.device("cpu"))
    for _ in range(50):
        next(clock)
    contestant.train(4.0, 4.0, torch.device("cpu"))
    assert shares == [0.0, 0.25, 0.5, 0.75] and (contestant.seconds, contestant.steps) == (4.0, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generators": ()}, "--generators needs at least one network"),
        ({"generators": ("vae", "vae")}, "--generators must differ"),
        ({"budget": 0.0}, "--budget must be a number above 0, got 0.0"),
    ],
)
def test_invalid_settings_of_the_comparison_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        compare_generators.Config(**settings)
