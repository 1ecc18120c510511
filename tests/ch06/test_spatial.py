"""The program of the spatial transformers: settings, training step, evaluation, films, runs."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from ch06_cnn.spatial import film as films
from ch06_cnn.spatial import spatial, visualise
from ch06_cnn.spatial.film import PANEL, SHOWN, Film
from ch06_cnn.spatial.networks import CNN, SPN, RecurrentSPN, sample
from ch06_cnn.spatial.spatial import Config
from ch06_cnn.spatial.transformer import region
from common.data.images.loading import load_images
from common.data.images.transformed import TRANSFORMATIONS, draw
from common.schedule import one_cycle_at
from conftest import train_until

TASKS: list[Any] = list(TRANSFORMATIONS)


@pytest.fixture(scope="module")
def few():
    return load_images("digits", limit=40)


@pytest.fixture
def config(options):
    return Config(data="digits", task="rotated", epochs=2, batch_size=20, run=options)


def frames(film) -> int:
    return film.n_frames


def test_defaults_depend_on_the_task():
    assert [Config(task=task).network for task in TASKS] == ["spn", "spn", "spn", "rnn-spn"]
    sizes: dict[Any, int] = {"cnn": 28, "spn": 50, "rnn-spn": 28}
    for network, size in sizes.items():
        assert Config(task="sequence", network=network).crop_size == size
        assert Config(task="cluttered", network=network).crop_size == 28
    kinds: dict[Any, type] = {"cnn": CNN, "spn": SPN, "rnn-spn": RecurrentSPN}
    for network, kind in kinds.items():
        assert isinstance(spatial.make_model(Config(network=network)), kind)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_scale": 0.0}, "--initial-scale must be above 0 and at most 2, got 0.0"),
        ({"crop_size": 4}, "--crop-size must be between 8 and 200, got 4"),
        ({"localisation_rate": 0.0}, "--localisation-rate must be a number above 0, got 0.0"),
        ({"epochs": 0}, "--epochs must be a number above 0, got 0"),
        ({"weight_decay": 1.0}, "--weight-decay must be at least 0 and below 1, got 1.0"),
    ],
)
def test_wrong_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize("network", ["cnn", "spn", "rnn-spn"])
def test_the_localisation_network_has_the_lower_learning_rate(network):
    config = Config(network=network, learning_rate=0.01, localisation_rate=0.2)
    model = spatial.make_model(config)
    optimizer = spatial.make_optimizer(model, config)
    for progress in (0.0, 0.3, 0.9):
        spatial.set_progress(optimizer, progress, config.learning_rate)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert len(rates) == len(list(model.parameters()))
        peak = one_cycle_at(progress, 0.01, warm_up=0.1)
        for name, parameter in model.named_parameters():
            factor = 0.2 if network != "cnn" and not name.startswith("classifier.") else 1.0
            assert rates[id(parameter)] == pytest.approx(factor * peak)
    assert 0 < peak < 0.01


def test_long_gradients_are_rescaled(few, monkeypatch):
    monkeypatch.setattr(spatial, "CLIP", 1e-2)
    torch.manual_seed(0)
    model = CNN(42)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    batch = draw(few.train[:4], TRANSFORMATIONS["rotated"], torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    spatial.train_step(model, optimizer, spatial.scaled(batch.pixels), batch.labels)
    moved = [(new.detach() - old).norm() for old, new in zip(before, model.parameters(), strict=True)]
    assert float(torch.stack(moved).norm()) == pytest.approx(1e-2, rel=1e-2)


def test_the_background_is_zero_like_the_outside_of_an_image():
    assert spatial.scaled(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])


def test_a_training_step_follows_the_gradient_of_the_mean_loss_of_a_digit(few):
    torch.manual_seed(0)
    config = Config(task="sequence", learning_rate=0.1)
    model = spatial.make_model(config).eval()
    batch = draw(few.train[:4], config.transformation, torch.Generator().manual_seed(0))
    pixels = spatial.scaled(batch.pixels)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    logits = model(pixels)
    losses = [-logits[n, k].log_softmax(0)[batch.labels[n, k]] for n in range(4) for k in range(3)]
    expected = torch.stack(losses).mean()
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss = spatial.train_step(model, optimizer, pixels, batch.labels)
    torch.testing.assert_close(loss, expected.detach())
    factor = 0.1 * min(1.0, spatial.CLIP / float(norm))
    for old, gradient, new in zip(before, gradients, model.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old - factor * gradient, atol=1e-6, rtol=1e-4)
        assert new.grad is None


@pytest.mark.parametrize("network", ["cnn", "spn", "rnn-spn"])
def test_one_batch_is_overfitted(few, network):
    torch.manual_seed(0)
    config = Config(task="sequence" if network == "rnn-spn" else "rotated", network=network, localisation_rate=0.1)
    model = spatial.make_model(config)
    optimizer = spatial.make_optimizer(model, config)
    batch = draw(few.train[:6], config.transformation, torch.Generator().manual_seed(0))
    pixels = spatial.scaled(batch.pixels)

    def step():
        spatial.set_progress(optimizer, 0.1, 2e-3)
        spatial.train_step(model, optimizer, pixels, batch.labels)

    train_until(lambda: torch.equal(model(pixels).argmax(2), batch.labels), step, at_most=300)


def test_the_localisation_learns_where_something_is_from_the_samplers_gradient():
    """A bright spot at a random place: the output's brightness at its centre is the only signal."""
    torch.manual_seed(0)
    centre = 1.2 * torch.rand(64, 2) - 0.6
    axis = (torch.arange(20) + 0.5) / 10 - 1
    distance = (axis - centre[:, :1]).square()[:, None, :] + (axis - centre[:, 1:]).square()[:, :, None]
    images = (-4 * distance).exp().unsqueeze(1)  # (B, 1, 20, 20)
    model = SPN(20, 9, form="attention", sampler="by-hand")
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def step():
        optimizer.zero_grad()
        (-sample(images, model.attend(images), 9, "by-hand")[:, 0, 4, 4].mean()).backward()
        optimizer.step()

    @torch.no_grad()
    def found():
        return float((model.attend(images)[:, 0, :, 2] - centre).norm(dim=1).mean()) < 0.1

    assert not found()
    train_until(found, step, at_most=400)


def test_measures_by_hand():
    logits = torch.tensor([[[9.0, 0, 0], [0, 9.0, 0]], [[9.0, 0, 0], [0, 0, 9.0]]])
    labels = torch.tensor([[0, 1], [1, 2]])
    measures = spatial.measure(logits, labels)
    assert measures["error_rate"] == 0.25
    assert measures["sequence_error_rate"] == 0.5
    assert measures["loss"] == pytest.approx(9 / 4, abs=1e-3)
    assert set(spatial.measure(logits[:, :1], labels[:, :1])) == {"error_rate", "loss"}


def test_predict_restores_the_mode_and_keeps_the_order(few, monkeypatch):
    model = spatial.make_model(Config(task="rotated"))
    images = draw(few.test, TRANSFORMATIONS["rotated"], torch.Generator()).pixels
    logits, theta = spatial.predict(model, images)
    assert model.training
    monkeypatch.setattr(spatial, "AT_ONCE", 7)
    for got, right in zip(spatial.predict(model, images), (logits, theta), strict=True):
        torch.testing.assert_close(got, right)
    torch.testing.assert_close(logits, model.eval()(spatial.scaled(images)).detach())
    assert theta.shape == (40, 1, 2, 3)


# Runs.


def test_training_is_repeatable_restores_and_leaves_figures_and_films(config, few, monkeypatch):
    first = spatial.train(config, few)
    monkeypatch.setattr(spatial, "report", lambda *_: None)
    second = spatial.train(config, few)
    assert first["test_loss"] == second["test_loss"]
    folders = [path.parent for path in sorted(config.run.out.rglob("model.safetensors"))]
    (model, restored), (other, _) = (spatial.restore(folder) for folder in folders)
    assert restored == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert first["parameters"] == sum(p.numel() for p in model.parameters())
    test = spatial.fixed_images(few.test, config.transformation, spatial.TEST_SEED)
    measured = spatial.measure(spatial.predict(model, test.pixels)[0], test.labels)
    assert measured["error_rate"] == pytest.approx(first["test_error_rate"])
    names = {path.name for path in folders[0].iterdir()}
    assert {"curves.png", "confusion.png", "regions.png", "mistakes.png", "training.gif", "turning.gif"} <= names
    with Image.open(folders[0] / "training.gif") as film:
        assert frames(film) >= 4
    summary = json.loads((folders[0] / "summary.json").read_text())
    assert summary["data"]["name"] == "digits"


def test_a_sequence_is_read_in_a_film(config, few):
    spatial.train(replace(config, task="sequence", network="rnn-spn", epochs=1), few)
    (folder,) = config.run.out.glob("*/spatial/*")
    with Image.open(folder / "reading.gif") as film:
        assert frames(film) > 1
    row = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["valid_sequence_error_rate"] >= row["valid_error_rate"]


def test_a_cnn_has_figures_but_no_films(config, few):
    spatial.train(replace(config, network="cnn", epochs=1), few)
    (folder,) = config.run.out.glob("*/spatial/*")
    assert not list(folder.glob("*.gif"))
    assert (folder / "regions.png").exists()


@pytest.mark.parametrize("fresh", [True, False])
def test_every_epoch_has_new_images_unless_they_are_fixed(config, few, monkeypatch, fresh):
    seen = []

    def watch(model, optimizer, pixels, labels, *, bf16):
        seen.append(pixels.clone())
        optimizer.step()
        return torch.tensor(1.0)

    monkeypatch.setattr(spatial, "train_step", watch)
    monkeypatch.setattr(spatial, "report", lambda *_: None)
    spatial.train(replace(config, task="cluttered", fresh=fresh), few)
    first, second = ({image.numpy().tobytes() for image in torch.cat(half)} for half in (seen[:2], seen[2:]))
    assert len(first) == len(second) == 40
    assert (first == second) != fresh
    assert (first & second == set()) == fresh


def test_the_test_images_do_not_depend_on_the_seed(config, few, monkeypatch):
    seen = []
    monkeypatch.setattr(spatial, "report", lambda run, model, predict, data, test, *_: seen.append(test))
    for seed in (0, 1):
        spatial.train(replace(config, epochs=1, run=replace(config.run, seed=seed)), few)
    assert torch.equal(seen[0].pixels, seen[1].pixels)
    assert torch.equal(seen[0].labels[:, 0], few.test.labels)


def test_a_resumed_run_has_the_same_weights_and_the_same_film(config, few, monkeypatch):
    def write_film(run, model, predict, data, test, outputs, film):
        film.write(run.folder / "training.gif", 28)

    monkeypatch.setattr(spatial, "report", write_film)
    config = replace(config, epochs=3)
    spatial.train(config, few)
    (reference,) = config.run.out.rglob("model.safetensors")
    elsewhere = replace(config, run=replace(config.run, out=config.run.out / "again"))
    step, calls = spatial.train_step, []

    def stop(*arguments, **named):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(spatial, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        spatial.train(elsewhere, few)
    monkeypatch.setattr(spatial, "train_step", step)
    spatial.train(replace(elsewhere, run=replace(elsewhere.run, resume=True)), few)
    (resumed,) = elsewhere.run.out.rglob("model.safetensors")
    assert resumed.read_bytes() == reference.read_bytes()
    assert resumed.with_name("training.gif").read_bytes() == reference.with_name("training.gif").read_bytes()


# Films and figures.


def test_the_film_takes_steps_on_a_logarithmic_scale():
    film = Film(torch.zeros(10, 1, 42, 42, dtype=torch.uint8), 1_000, pages=5)
    assert film.steps == {0, 1, 10, 100, 1_000}
    for step in range(1_001):
        film.take(step, lambda images, step=step: torch.full((len(images), 1, 2, 3), float(step)))
    assert sorted(film.pages) == [0, 1, 10, 100, 1_000]
    assert film.pages[10].shape == (SHOWN, 1, 2, 3) and (film.pages[10] == 10).all()
    other = Film(film.images, 1_000, pages=5)
    other.load_state_dict(film.state_dict())
    assert other.pages == film.pages


def test_a_frame_shows_the_outline_and_the_crop_of_a_region():
    """The region is the left upper quarter of an image whose left upper quarter is white."""
    images = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    images[..., :20, :20] = 255
    theta = torch.tensor([[[[0.5, 0, -0.5], [0, 0.5, -0.5]]]])
    picture = films.frame(images, theta, 28)
    top, left = films.TITLE + films.GAP, films.GAP
    shown = picture[top : top + PANEL, left : left + PANEL].float()
    assert (shown[10:50, 10:50] == 255).all() and (shown[70:110, 70:110] == 0).all()
    colour = torch.tensor([0xE6, 0x9F, 0x00]).float()
    assert torch.equal(shown[60, 30], colour) and torch.equal(shown[30, 60], colour), "no outline at the middle"
    crop = picture[top + PANEL + films.GAP :, left : left + PANEL]
    assert (crop[10:110, 10:110] == 255).all()
    none = films.frame(images, theta, 28, shown=0)
    assert not (none[top : top + PANEL, left : left + PANEL] == colour).all(2).any()


def test_errors_are_sorted_by_their_loss():
    logits = torch.tensor([[[5.0, 0]], [[0, 3.0]], [[0, 6.0]], [[1.0, 0]]])
    labels = torch.tensor([[0], [0], [0], [1]])
    assert visualise.most_certain_errors(logits, labels).tolist() == [2, 1, 3]
    assert visualise.titled(torch.tensor([3, 5]), torch.tensor([3, 5])) == "35"
    assert visualise.titled(torch.tensor([3, 5]), torch.tensor([3, 6])) == "35 → 36"


def test_the_digit_of_the_film_turns_to_both_ends_and_back(few, monkeypatch):
    seen = []

    def predict(images):
        seen.append(images)
        return torch.zeros(len(images), 1, 10), torch.eye(2, 3).expand(len(images), 1, 2, 3)

    monkeypatch.setattr(visualise, "TURNS", 4)
    pictures = visualise.turning(predict, few.test, "rotated", 28)
    assert len(pictures) == 4
    upright, left, _, right = seen
    assert torch.equal(upright, seen[2])
    assert (left.int() - upright.rot90(1, (2, 3)).int()).abs().max() <= 1
    assert (right.int() - upright.rot90(-1, (2, 3)).int()).abs().max() <= 1


def test_regions_are_drawn_in_pixels_of_the_image():
    images = torch.zeros(2, 1, 40, 40, dtype=torch.uint8)
    theta = torch.tensor([[0.5, 0, 0.5], [0, 0.25, 0]]).expand(2, 1, 2, 3)
    figure = visualise.draw_regions(images, theta, 28, ["1", "2"])
    (line,) = figure.axes[0].lines
    expected = (region(theta[0, 0]) + 1) * 20 - 0.5
    drawn = torch.tensor(line.get_xydata())[:4]
    torch.testing.assert_close(drawn, expected, check_dtype=False)
    assert len(visualise.draw_regions(images, theta[:, :0], 0, ["1", "2"]).axes) == 2


def test_predict_leaves_a_network_in_evaluation_mode(few):
    model = CNN(42).eval()
    spatial.predict(model, torch.zeros(2, 1, 42, 42, dtype=torch.uint8))
    assert not model.training


def test_a_film_keeps_copies_and_is_written_in_the_order_of_the_steps(tmp_path, monkeypatch):
    film, theta = Film(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), steps=10), torch.zeros(1, 1, 2, 3)
    for step in (1, 0):
        film.take(step, lambda _: theta)
    theta += 1
    assert all((page == 0).all() for page in film.pages.values())
    titles = []
    monkeypatch.setattr(films, "frame", lambda *_, title: titles.append(title))
    monkeypatch.setattr(films, "write_gif", lambda *_: None)
    film.write(tmp_path / "film.gif", 8)
    assert titles == ["training step 0", "training step 1"]


def test_the_crops_of_two_regions_are_side_by_side():
    theta = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(1, 2, 2, 3)
    sheet = films.frame(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), theta, 8)
    row = films.TITLE + films.GAP + PANEL + films.GAP
    for turn in range(2):
        colour = "#" + bytes(sheet[row, films.GAP + turn * (PANEL // 2)].tolist()).hex()
        assert colour == films.COLOURS[turn]
