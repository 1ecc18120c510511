"""The chapter's other programs: the judge, the adversarial pair, the sweep, the throughput, the film."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ch08_vae import gan, judge, latent_sweep, pictures, pixels, throughput, vae
from ch08_vae.film import Film
from ch08_vae.networks import VAE
from common import plots
from common.data.images import load_images
from common.data.per_sample import PerSample

CPU = torch.device("cpu")


def frames(film) -> int:
    return film.n_frames


# The judge.


def test_the_judge_is_good_always_the_same_and_takes_nobodys_dice(digits):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = judge.fit_judge(digits, CPU)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    two = judge.fit_judge(digits, CPU)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    real = judge.judge_real(one, digits.test)
    assert real["accuracy"] > 0.95
    assert 0.85 < real["confidence"] <= 1
    assert not one.training


class Reader(nn.Module):
    """A judge that reads the class off the first ten pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.log(11.0)))

    def forward(self, drawings):
        return drawings[:, :10] * self.scale


def test_drawings_are_judged_by_hand():
    drawings = torch.zeros(200, 784)
    drawings[:, 0] = 1
    drawings[:50] = 0
    drawings[:50, 4] = 1
    drawings[0, 4], drawings[0, 7] = 0, 1  # one of 200: less than a hundredth
    seen = judge.judge_drawings(Reader(), drawings)
    assert seen["classes"] == 2
    assert seen["confidence"] == pytest.approx(11 / (11 + 9))
    labels = torch.zeros(200, dtype=torch.int64)
    assert judge.accuracy(Reader(), drawings, labels) == 0.75


# The adversarial pair.


@pytest.fixture
def gan_config(options):
    return gan.Config(data="digits", epochs=2, width=8, run=options)


def make_pair(config):
    torch.manual_seed(0)
    pair = gan.Pair(config)
    rate = config.learning_rate
    return pair, (gan.make_optimizer(pair.generator, rate), gan.make_optimizer(pair.discriminator, rate))


def test_the_pairs_shapes_and_weights(gan_config):
    pair, _ = make_pair(replace(gan_config, width=32))
    drawn = pair.generator(torch.randn(3, 64))
    assert drawn.shape == (3, 1, 28, 28)
    assert drawn.abs().max() <= 1
    assert pair.discriminator(drawn).shape == (3,)
    weights = [m.weight.detach() for m in pair.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    assert float(torch.cat([w.flatten() for w in weights]).std()) == pytest.approx(0.02, rel=0.03)


def test_pixels_are_scaled_as_the_generator_draws():
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert gan.scaled(levels).flatten().tolist() == [-1, 1]
    pair, _ = make_pair(gan.Config())
    z = torch.randn(4, 64)
    drawings = gan.draw(pair.generator, z)
    assert pair.generator.training
    pair.generator.eval()
    torch.testing.assert_close(drawings, (pair.generator(z).detach().flatten(1) + 1) / 2)


def test_each_network_steps_on_its_own_loss_only(gan_config, digits):
    """Two steps of Adam, written out, on the two losses by the definition of the game."""
    pair, optimizers = make_pair(gan_config)
    reference, _ = make_pair(gan_config)
    real = gan.scaled(digits.train.pixels[:16])
    torch.manual_seed(5)
    loss, fooled = gan.train_step(pair, optimizers, real)
    assert all(p.grad is None for p in pair.parameters())

    torch.manual_seed(5)
    drawn = reference.generator(torch.randn(16, 64))
    on_real, on_drawn = reference.discriminator(real), reference.discriminator(drawn.detach())
    expected = -on_real.sigmoid().log().mean() - (1 - on_drawn.sigmoid()).log().mean()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_stepped(reference.discriminator, pair.discriminator, expected)
    reference.discriminator.load_state_dict(pair.discriminator.state_dict())
    expected = -reference.discriminator(drawn).sigmoid().log().mean()
    assert float(fooled) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_stepped(reference.generator, pair.generator, expected)


def assert_stepped(before, after, loss):
    gradients = torch.autograd.grad(loss, list(before.parameters()))
    for old, new, g in zip(before.parameters(), after.parameters(), gradients, strict=True):
        big = g.abs() > 1e-6  # the direction of smaller ones is rounding
        expected = old.detach() - 1e-3 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(new.detach()[big], expected[big], rtol=1e-3, atol=2e-5)


def test_the_generator_is_pulled_towards_what_looks_real(gan_config, digits):
    pair, (generating, discriminating) = make_pair(gan_config)
    real = gan.scaled(digits.train.pixels[:32])
    for group in discriminating.param_groups:
        group["lr"] = 0.0
    losses = [float(gan.train_step(pair, (generating, discriminating), real)[1]) for _ in range(30)]
    assert losses[-1] < losses[0] - 0.05


def test_variety_is_nothing_where_all_drawings_are_the_same():
    assert gan.variety(torch.rand(1, 784).repeat(50, 1)) == pytest.approx(0, abs=1e-12)
    assert gan.variety(torch.rand(2_000, 784)) == pytest.approx(1 / 12, rel=0.05)


def test_the_pair_learns_to_draw_and_restores(gan_config, digits):
    config = replace(gan_config, epochs=12, batch_size=64, learning_rate=5e-4, width=16)
    metrics = gan.train(config, digits)
    assert metrics["sample_classes"] >= 4
    assert metrics["sample_variety"] > 0.4
    folder = next(config.run.out.rglob("model.safetensors")).parent
    generator, restored = gan.restore(folder)
    assert restored == config
    drawn = gan.draw(generator, torch.randn(10, 64))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"valid_classes", "valid_variety", "valid_confidence", "valid_generator_loss"} <= set(rows[0])
    for name in ("samples", "classes", "curves"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    with Image.open(folder / "training.gif") as film:
        assert frames(film) > 5


def test_an_interrupted_game_goes_on_to_the_same_weights(gan_config, monkeypatch):
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
def test_a_last_batch_of_one_image_does_no_harm(gan_config, limit):
    found = gan.train(replace(gan_config, epochs=1), load_images("digits", limit=limit))
    assert all(math.isfinite(value) for value in found.values())
    assert found["sample_variety"] > 0


def test_one_image_is_too_few_for_a_pair(gan_config):
    with pytest.raises(ValueError, match="--limit must leave at least 2 images, got 1"):
        gan.train(gan_config, load_images("digits", limit=1))
    with pytest.raises(ValueError, match="--batch-size must be at least 2"):
        gan.Config(batch_size=1)


# The sweep.


def test_the_sweep_compares_every_size_with_its_plain_twin(options, digits, capsys):
    config = latent_sweep.Config(
        data="digits", latent_sizes=(1, 8), hidden=(64, 32), epochs=25, batch_size=64, run=options
    )
    metrics = latent_sweep.train(config, digits)
    for size in (1, 8):
        elbo, rest = metrics[f"latent_{size}_elbo"], metrics[f"latent_{size}_reconstruction"]
        assert elbo == pytest.approx(rest - metrics[f"latent_{size}_kl"])
        assert 0 < metrics[f"latent_{size}_active_units"] <= size
    assert metrics["latent_8_elbo"] > metrics["latent_1_elbo"] + 10
    assert metrics["latent_8_plain_reconstruction"] > metrics["latent_8_reconstruction"]
    assert list(options.out.rglob("sweep.png"))
    assert "latent 8" in capsys.readouterr().out


def test_a_handful_of_images_is_enough_for_a_sweep(options):
    config = latent_sweep.Config(data="digits", latent_sizes=(1, 2), hidden=(4,), epochs=1, run=options)
    for limit in (1, 3):
        assert latent_sweep.train(config, load_images("digits", limit=limit))["latent_2_elbo"] < 0


def test_a_plain_autoencoder_pays_nothing_and_sees_no_noise(digits):
    x = pixels.fixed(digits.train.pixels[:16], "dynamic")
    torch.manual_seed(0)
    model = VAE(4, hidden=(32,))
    optimizer = vae.make_optimizer(model, 3e-3)
    losses = [float(latent_sweep.autoencoder_step(model, optimizer, x)) for _ in range(200)]
    assert losses[-1] < 120 < 500 < losses[0]
    assert latent_sweep.reconstruction(model, x) == latent_sweep.reconstruction(model, x)
    assert -latent_sweep.reconstruction(model, x) < losses[-1] + 5


def test_points_for_a_plain_decoder_lie_where_codes_do():
    torch.manual_seed(0)
    code = torch.tensor([2.0, -3.0]) + torch.tensor([5.0, 0.1]) * torch.randn(5_000, 2)
    drawn = latent_sweep.code_samples(code, 5_000)
    torch.testing.assert_close(drawn.mean(0), code.mean(0), rtol=0, atol=0.3)
    torch.testing.assert_close(drawn.std(0), code.std(0), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_sizes": ()}, "--latent-sizes needs at least one number"),
        ({"latent_sizes": (2, 2)}, "--latent-sizes must differ"),
        ({"latent_sizes": (0,)}, "--latent-sizes must be a number above 0"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        latent_sweep.Config(**settings)


# The throughput.


def test_throughput_compares_the_same_network_on_the_same_pixels(digits, options):
    config = throughput.Config(data="digits", batch_size=16, run=options)
    sample, label = PerSample(digits.train)[5]
    torch.testing.assert_close(sample.flatten(), pixels.flat(digits.train.pixels[5:6])[0])
    assert label == digits.train.labels[5]
    x = next(throughput.loader_stream(digits.train, config, CPU))
    assert x.shape == (16, 784)
    assert set(x.unique().tolist()) == {0.0, 1.0}


def test_throughput_measures_every_way(digits, options):
    config = throughput.Config(data="digits", batch_size=64, rounds=1, seconds=0.2, run=options)
    metrics = throughput.train(config, digits)
    for way in ("dataloader", "fp32", "bf16", "hand_bf16"):
        assert metrics[f"{way}_images_per_second"] > 0
    assert metrics["fp32_ratio"] == pytest.approx(
        metrics["fp32_images_per_second"] / metrics["dataloader_images_per_second"]
    )
    assert list(options.out.rglob("throughput.png"))


# The film and the pictures.


def test_the_film_keeps_its_pages_through_a_checkpoint(tmp_path):
    film = Film(epochs=100, pages=3)
    assert film.epochs == {1, 10, 100}
    for epoch in range(1, 13):
        film.take(epoch, lambda epoch=epoch: torch.full((20, 784), epoch / 100))
    again = Film(epochs=100, pages=3)
    again.load_state_dict(film.state_dict())
    assert list(again.pages) == [1, 10]
    again.write(tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as written:
        assert frames(written) == 2
        assert written.size == (600, 16 + 120)
        assert written.info["loop"] == 0
        written.seek(1)
        frame = torch.from_numpy(np.array(written.convert("L")))
        assert abs(int(frame[46, 30]) - 26) <= 2  # a tenth of 255, in the middle of the first drawing


def test_the_scene_always_draws_the_same_points(digits):
    torch.manual_seed(0)
    x = pixels.fixed(digits.valid.pixels[:10], "dynamic")
    model = VAE(3, hidden=(8,))
    one, two = pictures.scene(model, x, None), pictures.scene(model, x, None)
    assert one.shape == (50, 784)
    assert torch.equal(one, two)
    assert torch.equal(one[:10], x)
    torch.testing.assert_close(one[10:20], model.decode(model.encode(x)[0]).sigmoid().detach())
    assert pictures.scene(model, x[:4], None).shape == (50, 784)


def test_the_plane_has_its_axes_the_right_way_round(monkeypatch):
    """To the right the first unit grows, upwards the second; each tile is as probable as any other."""
    model, seen = VAE(2), {}
    monkeypatch.setattr(pictures, "decoded", lambda model, z, told=None: seen.setdefault("z", z)[:, :1].repeat(1, 784))
    pictures.draw_manifold(model, CPU, edge=5)
    z = seen["z"].view(5, 5, 2)
    assert bool((z[:, 1:, 0] > z[:, :-1, 0]).all())
    assert bool((z[1:, :, 1] < z[:-1, :, 1]).all())
    probability = torch.special.ndtr(z[0, :, 0])
    torch.testing.assert_close(probability, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(z[2, 2], torch.zeros(2), rtol=0, atol=1e-6)


def test_a_traversal_moves_one_unit_and_the_dearest_is_on_top(monkeypatch):
    model, seen = VAE(3), {}
    monkeypatch.setattr(pictures, "decoded", lambda model, z, told=None: seen.setdefault("z", z)[:, :1].repeat(1, 784))
    mu = torch.tensor([[0.5, 0.6, 0.7]])
    pictures.draw_traversal(model, None, mu, torch.tensor([0.1, 3.0, 1.0]))
    z = seen["z"].view(3, 11, 3)
    for row, unit in enumerate((1, 2, 0)):
        torch.testing.assert_close(z[row, :, unit], torch.linspace(-3, 3, 11))
        others = [other for other in range(3) if other != unit]
        torch.testing.assert_close(z[row][:, others], mu[:, others].expand(11, 2))


def test_a_mosaic_puts_each_tile_in_its_place():
    images = torch.arange(6).view(6, 1, 1, 1).expand(6, 1, 4, 4) / 10
    (axes,) = plots.mosaic(images, columns=3, row_names=["a", "b"], title="t").axes
    sheet = np.asarray(axes.images[0].get_array())
    assert sheet.shape == (9, 14)
    assert sheet[0, 0] == 0
    assert sheet[0, 5] == pytest.approx(0.1)
    assert sheet[8, 13] == pytest.approx(0.5)
    assert sheet[4, 0] == 1, "a white line between the rows"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
