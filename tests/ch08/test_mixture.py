"""The program `mixture`: planted mixtures, counted modes, training of several methods, resume, wrong settings."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ch08_vae.adversarial import mixture
from ch08_vae.adversarial.mixtures import Mixture, draw, make_mixture, measure_modes
from ch08_vae.adversarial.pictures import Snapshots, extent
from conftest import train_until

CPU = torch.device("cpu")


@pytest.fixture
def config(options):
    return mixture.Config(methods=("gan_spectral", "wgan_gp_5"), width=8, epochs=3, steps=7, batch_size=16, run=options)


# The mixtures and their measures.


def test_the_mixtures_have_the_published_means():
    grid, ring = make_mixture("grid"), make_mixture("ring")
    assert {tuple(mean) for mean in grid.means.tolist()} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}
    assert ring.means.shape == (8, 2) and len({tuple(mean) for mean in ring.means.mul(1e4).round().tolist()}) == 8
    torch.testing.assert_close(ring.means.norm(dim=1), torch.full((8,), 2.0))
    torch.testing.assert_close(ring.means.sum(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert grid.deviation == 0.05 and ring.deviation == 0.02


@pytest.mark.parametrize("name", ["grid", "ring"])
def test_samples_of_the_mixture_itself_have_all_modes(name):
    torch.manual_seed(0)
    planted = make_mixture(name)
    samples = draw(planted, 20_000)
    found = measure_modes(samples, planted)
    assert found["modes"] == len(planted.means)
    assert found["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.004), "P(|x| <= 3 sigma) in the plane"
    assert found["kl"] < 0.005
    nearest = torch.cdist(samples, planted.means).argmin(1)
    residual = samples - planted.means[nearest]
    torch.testing.assert_close(residual.std(0), torch.full((2,), planted.deviation), rtol=0.03, atol=0)


def test_modes_by_hand():
    planted = Mixture(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 0.1)
    samples = torch.tensor([[0.0, 0.29], [0.1, 0.0], [0.0, -0.1], [1.0, 0.2], [0.5, 0.5], [1.0, 0.69]])
    found = measure_modes(samples, planted)
    assert found["modes"] == 2
    assert found["high_quality"] == pytest.approx(4 / 6)
    expected = 0.75 * math.log(0.75) + 0.25 * math.log(0.25) + math.log(4)
    assert found["kl"] == pytest.approx(expected)


def test_modes_of_collapsed_and_of_wrong_samples():
    planted = make_mixture("ring")
    collapsed = measure_modes(planted.means[:1].repeat(50, 1), planted)
    assert collapsed == pytest.approx({"modes": 1, "high_quality": 1, "kl": math.log(8)})
    assert measure_modes(torch.zeros(50, 2), planted) == pytest.approx(
        {"modes": 0, "high_quality": 0, "kl": math.log(8)}
    )


# The program.


def test_methods_differ_from_their_neighbours_in_one_setting():
    settings = {name: vars(method) for name, method in mixture.METHODS.items()}
    pairs = [("gan", "gan_spectral"), ("gan", "gan_5"), ("gan_5", "wgan_5"), ("wgan_5", "wgan_gp_5")]
    for one, other in [*pairs, ("wgan_gp_5", "wgan_gp")]:
        assert sum(settings[one][key] != settings[other][key] for key in settings[one]) == 1, (one, other)
    assert mixture.Config().methods == tuple(mixture.METHODS)


def test_the_generator_is_trained_after_every_critic_steps(config, monkeypatch):
    seen = []

    def watch(pair, optimizers, real, *, loss, gradient_penalty, train_generator, bf16):
        seen.append((loss, gradient_penalty, train_generator, optimizers[0].param_groups[0]["lr"]))
        return torch.zeros(()), None

    monkeypatch.setattr(mixture, "train_step", watch)
    trainer = mixture.Trainer(mixture.METHODS["wgan_gp_5"], config, CPU)
    for number in range(12):
        trainer.step(number, 12, torch.zeros(2, 2))
    assert [number for number, (_, _, trained, _) in enumerate(seen) if trained] == [4, 9]
    assert {(loss, penalty) for loss, penalty, _, _ in seen} == {
        ("wasserstein", mixture.METHODS["wgan_gp_5"].gradient_penalty)
    }
    rates = [rate for *_, rate in seen]
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.05) and rates[-1] < rates[5]


@pytest.mark.parametrize("name", ["gan_spectral", "wgan_gp_5"])
def test_one_mode_is_learned(name, config):
    """With a single Gaussian as target, the mean of the generated points reaches its mean."""
    planted = Mixture(torch.tensor([[1.0, -1.0]]), 0.05)
    torch.manual_seed(0)
    trainer = mixture.Trainer(mixture.METHODS[name], replace(config, width=32, learning_rate=2e-3), CPU)
    z, numbers = torch.randn(500, 2), iter(range(1_000, 10_000))
    train_until(
        lambda: float((mixture.generate(trainer.pair.generator, z).mean(0) - planted.means[0]).norm()) < 0.2,
        lambda: trainer.step(next(numbers), 10_000, draw(planted, 64)),
        at_most=3_000,
        every=25,
    )


def test_training_measures_draws_and_restores(config):
    metrics = mixture.train(config)
    names = {f"{method}_{name}" for method in config.methods for name in ("modes", "high_quality", "kl")}
    assert names <= set(metrics) and metrics["real_modes"] == 25
    folder = next(config.run.out.rglob("model.safetensors")).parent
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and {f"valid_{name}" for name in names} <= set(rows[0])
    for name in ("training", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    with Image.open(folder / "training.gif") as film:
        assert film.size == (2 * 150, 168)
    models, restored = mixture.restore(folder)
    pair: Any = models["wgan_gp_5"]
    assert restored == config and list(models) == list(config.methods)
    assert mixture.generate(pair.generator, torch.randn(4, 2)).shape == (4, 2)
    second = mixture.train(config)
    assert all(second[name] == metrics[name] for name in names), "the same seed gives the same points"


def test_a_resumed_run_has_the_same_weights(config, monkeypatch):
    """Including the vectors of the power iteration, which are buffers of the discriminator."""
    monkeypatch.setattr(mixture, "report", lambda *_: None)
    mixture.train(config)
    (reference,) = config.run.out.rglob("model.safetensors")
    elsewhere = replace(config, run=replace(config.run, out=config.run.out / "again"))
    take = Snapshots.take

    def stop(snapshots, epoch, points):
        if epoch == 3:
            raise KeyboardInterrupt
        take(snapshots, epoch, points)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(Snapshots, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        mixture.train(elsewhere)
    monkeypatch.setattr(Snapshots, "take", take)
    pages = []
    monkeypatch.setattr(mixture, "report", lambda run, snapshots, *_: pages.append(sorted(snapshots.pages)))
    mixture.train(replace(elsewhere, run=replace(elsewhere.run, resume=True)))
    (resumed,) = elsewhere.run.out.rglob("model.safetensors")
    assert resumed.read_bytes() == reference.read_bytes()
    assert pages == [[1, 2, 3]]
    checkpoint = torch.load(resumed.with_name("checkpoint.pt"), weights_only=True)
    assert any(name.endswith("weight.0.u") for name in checkpoint["parts"]["gan_spectral"])


def test_snapshots_choose_epochs_and_show_all_means(tmp_path: Path):
    snapshots = Snapshots(100, pages=8)
    for epoch in range(1, 101):
        snapshots.take(epoch, [torch.full((3, 2), float(epoch))])
    assert sorted(snapshots.pages) == [1, 2, 4, 7, 14, 27, 52, 100]
    assert snapshots.chosen(3) == [1, 7, 100]
    assert snapshots.chosen(20) == sorted(snapshots.pages)
    ring = make_mixture("ring")
    assert extent(ring) == pytest.approx(2.5)
    centre = Mixture(torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]), 0.1)
    pages = Snapshots(1)
    pages.take(1, [torch.tensor([[0.0, 0.0], [0.0, 0.9], [9.0, 9.0]])])
    pages.write(tmp_path / "one.gif", ["gan"], centre)
    with Image.open(tmp_path / "one.gif") as film:
        pixels: Any = film.convert("RGB")
        assert pixels.getpixel((75, 18 + 75))[2] > 100 > pixels.getpixel((75, 18 + 75))[0], "a point in the middle"
        assert pixels.getpixel((75, 18 + 150 - 129))[0] < 100, "y grows upwards"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ()}, "--methods needs at least one method"),
        ({"methods": ("gan", "gan")}, "--methods must differ, got gan gan"),
        ({"steps": 0}, "--steps must be a number above 0, got 0"),
        ({"learning_rate": -1.0}, "--learning-rate must be a number above 0"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        mixture.Config(**changes)


def test_the_benchmark_steps_every_method(config):
    work = mixture.workload(config, CPU)
    work.step()
    assert work.items == 5 * config.batch_size
