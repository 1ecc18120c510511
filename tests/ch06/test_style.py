"""Style transfer: both programs, their pictures and crops, restore, resume, `stylise` on files, and bad input."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from ch06_cnn import stylise as command_line
from ch06_cnn.style import crops, fast_style, features, pictures, style, style_features
from ch06_cnn.style.features import RandomFeatures
from ch06_cnn.style.film import Film
from ch06_cnn.style.losses import Objective, Weights
from ch06_cnn.style.network import StyleNetwork, stylise
from common.data.images import picture
from common.data.images.image_set import Split
from common.runs import load
from conftest import train_until
from test_image_folders import png_header


@pytest.fixture
def config(options):
    return style.Config(size=48, epochs=2, steps=3, run=options)


@pytest.fixture
def fast(options):
    return fast_style.Config(
        size=48, image_size=32, images=8, batch_size=4, width=4, blocks=1, epochs=2, steps=3, run=options
    )


def folder_of(options):
    return max(options.out.rglob("summary.json")).parent


def pair(size=32):
    """A content and a style picture with 12 filters at each scale, and their objective."""
    network = RandomFeatures()
    network.texture, network.colour = network.texture[:, :12], network.colour[:, :8]
    content = pictures.as_floats(pictures.read("flower", 3 * size)[:, 20 : 20 + size, 30 : 30 + size])
    objective = Objective(network, pictures.as_floats(pictures.read("mosaic", size)), Weights(1, 100, 1))
    return content, objective


# Pictures.


def test_generated_styles_are_repeatable_and_have_their_size():
    for name in pictures.GENERATED:
        one = pictures.read(name, 40)
        assert one.shape == (3, 40, 40) and one.dtype == torch.uint8
        assert torch.equal(one, pictures.read(name, 40))
        assert one.float().std() > 30


def test_a_mosaic_has_dark_joints_between_its_tiles():
    pixels = pictures.read("mosaic", 128).float()
    grey = pixels.mean(0)
    joints = grey < 45
    assert 0.1 < joints.float().mean() < 0.45
    assert pixels[:, grey > 60].std(1).min() > 30


def test_pictures_keep_their_proportions_and_orientation(tmp_path):
    wide = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (50, 1, 3)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right by 90 degrees
    wide.save(tmp_path / "turned.png", exif=exif)
    pixels = pictures.read(str(tmp_path / "turned.png"), 160)
    assert pixels.shape == (3, 160, 40)
    assert pixels[0, 0].float().mean() < 5 and pixels[0, -1].float().mean() > 190
    assert pictures.read(str(tmp_path / "turned.png"), 500).shape == (3, 200, 50), "a smaller picture keeps its size"
    assert pictures.read("china", 64).shape == (3, 43, 64)


def test_conversion_to_bytes_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(pictures.as_bytes(pictures.as_floats(pixels)), pixels)
    assert pictures.as_bytes(torch.tensor([-1.0, 2.0])).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.jpg", "none.jpg does not exist: give a picture file, or one of china, flower"),
        ("text.png", "text.png: it is not a picture in a known format"),
        ("small.png", "small.png with --size 300: both sides must have at least 32 pixels, got 300 x 20"),
        ("huge.png", "huge.png: it has more than 100 million pixels"),
        ("flat.png", "both sides must have at least 32 pixels, got 64 x 7"),
    ],
)
def test_bad_pictures_are_one_error(tmp_path, config, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (300, 20)).save("small.png")
    Image.new("RGB", (640, 70)).save("flat.png")
    png_header(tmp_path / "huge.png", 30_000, 30_000)
    size = 64 if name == "flat.png" else 300
    for changes in ({"content": name}, {"style": name}):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            style.train(replace(config, size=size, **changes))
    assert not config.run.out.exists(), "a rejected run makes no folder"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="coffee is a picture of scikit-image: pip install scikit-image"):
        pictures.read("coffee", 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 31}, "--size must be between 32 and 2048, got 31"),
        ({"size": 30_000}, "--size must be between 32 and 2048, got 30000"),
        ({"style_weight": -1.0}, "--style-weight must be at least 0, got -1.0"),
        ({"content_weight": float("nan")}, "--content-weight must be at least 0, got nan"),
        ({"folder": "runs/x"}, "--folder is for --features own, got random"),
        ({"epochs": 0}, "--epochs must be a number above 0, got 0"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    for program in (style, fast_style):
        with pytest.raises(ValueError, match=message):
            program.Config(**changes)


def test_the_training_images_must_fit_the_network():
    for size in (30, 34, 516):
        with pytest.raises(ValueError, match=f"must be a multiple of 4 between 32 and 512, got {size}"):
            fast_style.Config(image_size=size)


# The optimisation.


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["content", "noise"])
def test_the_optimisation_reduces_the_loss(optimizer, start):
    torch.manual_seed(0)
    content, objective = pair()
    settings = style.Config(optimizer=optimizer, start=start)
    canvas = style.make_canvas(settings, content)
    near = (canvas()[0] - content).abs().max() < 0.03
    assert near == (start == "content")
    stepper, target = style.make_optimizer(canvas, settings), objective.content(content.unsqueeze(0))
    first = objective.measures(canvas(), target)["loss"]
    train_until(
        lambda: objective.measures(canvas(), target)["loss"] < first / 2,
        lambda: style.train_step(canvas, stepper, objective, target),
        at_most=60,
        every=2,
    )


def test_a_step_follows_the_gradient_of_the_objective():
    content, objective = pair()
    target = objective.content(content.unsqueeze(0))
    canvas = style.Canvas(content.flip(2).unsqueeze(0))
    before = canvas.logits.detach().clone().requires_grad_()
    loss = objective(before.sigmoid(), target)
    (gradient,) = torch.autograd.grad(loss, before)
    count = before.numel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "ITERATIONS", 1)
        found = style.train_step(canvas, torch.optim.SGD(canvas.parameters(), 1e-3), objective, target)
    torch.testing.assert_close(found, loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(canvas.logits.detach(), before.detach() - 1e-3 * count * gradient, rtol=1e-4, atol=1e-6)


def test_the_program_is_repeatable_restores_and_writes_its_files(config, monkeypatch):
    first = style.train(config)
    folder = folder_of(config.run)
    files = {path.name for path in folder.iterdir()}
    assert {"result.png", "pictures.png", "curves.png", "optimisation.gif", "model.safetensors"} <= files
    canvas, restored = load(folder)
    assert restored == config
    with Image.open(folder / "result.png") as image:
        saved = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(pictures.as_bytes(canvas()[0]), saved) and saved.shape == (3, 32, 48)
    with Image.open(folder / "optimisation.gif") as film:
        frames = [frame.copy() for frame in ImageSequence.Iterator(film)]
        assert len(frames) == 7 - len({0, *range(1, 7)} - Film(6).steps) and film.size == (48, 46)
    monkeypatch.setattr(style, "report", lambda *_: None)
    second = style.train(config)
    assert all(first[name] == second[name] for name in first if name.endswith("loss"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"does not exist: has this run finished\?"):
        style.restore(folder)


def test_a_resumed_run_ends_with_the_same_pixels(config, monkeypatch):
    monkeypatch.setattr(style, "report", lambda *_: None)
    style.train(config)
    whole, _ = style.restore(folder_of(config.run))
    taken = []

    def interrupt(film, step, draw, take=Film.take):
        taken.append(step)
        if len(taken) == 5:  # in the second epoch
            raise KeyboardInterrupt
        take(film, step, draw)

    other = replace(config, run=replace(config.run, out=config.run.out / "other"))
    with monkeypatch.context() as patch:
        patch.setattr(Film, "take", interrupt)
        with pytest.raises(KeyboardInterrupt):
            style.train(other)
    style.train(replace(other, run=replace(other.run, resume=True)))
    resumed, _ = style.restore(folder_of(other.run))
    assert torch.equal(resumed.logits, whole.logits)


def test_the_film_keeps_selected_steps():
    film = Film(1000)
    for step in range(1001):
        film.take(step, lambda step=step: torch.full((1, 3, 4, 4), step / 1000))
    assert film.pages.keys() == film.steps and {0, 1, 1000} <= film.steps and len(film.steps) <= 36
    assert film.pages[1000].unique().tolist() == [255]
    other = Film(1000)
    other.load_state_dict(film.state_dict())
    assert other.pages.keys() == film.pages.keys()


# The network.


def test_crops_come_from_the_left_and_validation_crops_from_the_right(monkeypatch):
    photograph = torch.zeros(3, 100, 200, dtype=torch.uint8)
    photograph[:, :, 150:] = 255
    monkeypatch.setattr(crops, "load_photographs", lambda data, size: ([photograph], "card"))
    train, valid, card = crops.load_crops("photographs", 32, (20, 5), seed=0)
    assert train.shape == (20, 3, 32, 32) and valid.shape == (5, 3, 32, 32) and card == "card"
    assert train.max() == 0 and valid.min() == 255
    assert torch.equal(crops.load_crops("photographs", 32, (20, 5), seed=0)[0], train)


def test_crops_have_several_places_scales_and_mirror_images():
    ramp = torch.arange(96, dtype=torch.uint8).expand(3, 96, 96)
    drawn = crops.draw([ramp], 40, 32, torch.Generator().manual_seed(0)).float()
    slopes = (drawn[:, 0, 16, 31] - drawn[:, 0, 16, 0]) / 31
    assert 5 < int((slopes < 0).sum()) < 35, "mirrored ones fall from left to right"
    assert slopes.abs().min() == pytest.approx(1, abs=0.1) and 1.7 < slopes.abs().max() < 2.1
    assert drawn.mean((1, 2, 3)).std() > 3


def test_training_images_of_each_kind(tmp_path, monkeypatch):
    Image.effect_noise((90, 70), 60).convert("RGB").save(tmp_path / "one.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "small.jpg")
    train, valid, card = crops.load_crops(str(tmp_path), 64, (3, 2), seed=0)
    assert train.shape == (3, 3, 64, 64) and valid.shape == (2, 3, 64, 64)
    assert card.description == f"crops of 1 pictures from {tmp_path}" and not card.embedded
    split = Split(torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 32, 32), torch.zeros(10))
    shapes = SimpleNamespace(train=split, valid=split[5:], card="the shapes")
    monkeypatch.setattr(crops, "load_images", lambda name: shapes)
    train, valid, card = crops.load_crops("shapes", 48, (3, 2), seed=0)
    assert train.shape == (3, 3, 48, 48) and train[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert valid[:, 2, 9, 9].tolist() == [5, 6] and card == "the shapes"


def test_bad_folders_of_training_images_are_one_error(tmp_path):
    with pytest.raises(ValueError, match="--data none is neither a data set nor a folder: choose from photographs"):
        crops.load_crops("none", 64, (3, 2), seed=0)
    with pytest.raises(ValueError, match="needs pictures"):
        crops.load_crops(str(tmp_path), 64, (3, 2), seed=0)
    Image.new("RGB", (40, 40)).save(tmp_path / "small.jpg")
    with pytest.raises(ValueError, match="needs a picture of at least 64 x 64 pixels, got only smaller ones"):
        crops.load_crops(str(tmp_path), 64, (3, 2), seed=0)
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"broken.png: it is not a picture in a known format"):
        crops.load_crops(str(tmp_path), 64, (3, 2), seed=0)


@pytest.mark.parametrize(("clip", "rate"), [(fast_style.CLIP, 0.1), (1e9, 1e-5)])
def test_a_training_step_follows_the_gradient_with_each_picture_as_its_own_content(monkeypatch, clip, rate):
    monkeypatch.setattr(fast_style, "CLIP", clip)
    torch.manual_seed(0)
    content, objective = pair()
    images = torch.stack([content, content.flip(2).square()])
    model = StyleNetwork(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(2):  # in the second step, the first gradient must be gone
        parameters = list(model.parameters())
        losses = [objective(model(one[None]), objective.content(one[None])) for one in images]
        expected = torch.stack(losses).mean()
        gradients = torch.autograd.grad(expected, parameters)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        factor = rate * min(1.0, clip / float(norm))
        before = [parameter.detach().clone() for parameter in parameters]
        found = fast_style.train_step(model, optimizer, objective, images)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)
        for old, gradient, new in zip(before, gradients, parameters, strict=True):
            torch.testing.assert_close(new.detach(), old - factor * gradient, rtol=1e-5, atol=1e-5)


def test_one_batch_is_learned():
    torch.manual_seed(0)
    content, objective = pair()
    images = torch.stack([content, content.flip(2)])
    model = StyleNetwork(8, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    target = objective.content(images)
    first = objective.measures(images, target)["loss"]
    train_until(
        lambda: objective.measures(stylise(model, images), target)["loss"] < first / 2,
        lambda: fast_style.train_step(model, optimizer, objective, images),
        at_most=200,
    )


def test_the_network_program_is_repeatable_restores_and_writes_its_files(fast, monkeypatch):
    first = fast_style.train(fast)
    folder = folder_of(fast.run)
    files = {path.name for path in folder.iterdir()}
    assert {"result.png", "pictures.png", "curves.png", "training.gif"} <= files
    model, restored = load(folder)
    assert restored == fast and isinstance(model, StyleNetwork) and not model.training
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all({"valid_loss", "valid_style_loss"} <= set(row) for row in history)
    content, style_picture, _ = style.read_pictures(fast.content, fast.style, fast.size)
    objective = Objective(RandomFeatures(), style_picture, style.weights_of(fast))
    shown = content.unsqueeze(0)
    found = objective.measures(stylise(model, shown), objective.content(shown))
    assert found["loss"] == pytest.approx(first["loss"], rel=1e-4)
    monkeypatch.setattr(fast_style, "report", lambda *_: None)
    second = fast_style.train(fast)
    assert all(first[name] == second[name] for name in first if name.endswith("loss"))


def test_the_comparison_stops_when_the_optimisation_is_as_good():
    torch.manual_seed(0)
    content, objective = pair()
    shown = content.unsqueeze(0)
    start = objective.measures(shown, objective.content(shown))["loss"]
    model, config = StyleNetwork(4, 1), fast_style.Config(steps=4)
    for loss, taken, reached in ((start * 1.01, 0, True), (0.0, 4, False)):
        measures, picture_found = fast_style.compare(model, objective, shown, loss, config)
        assert (measures["optimisation_steps"], measures["optimisation_reached"]) == (taken, reached)
        assert measures["speed_up"] == pytest.approx(measures["optimisation_seconds"] / measures["network_seconds"])
        assert picture_found.shape == content.shape


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from common.config import RunOptions

    out = tmp_path_factory.mktemp("runs")
    run = RunOptions(device="cpu", threads=1, out=out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_style, "report", lambda *_: None)
        fast_style.train(
            fast_style.Config(
                size=48, image_size=32, images=4, batch_size=4, width=4, blocks=1, epochs=1, steps=1, run=run
            )
        )
    return out


def test_stylise_writes_pictures_of_any_size(trained, tmp_path, capsys):
    noise = Image.effect_noise((71, 50), 80).convert("RGB")
    noise.save(tmp_path / "one.png"), noise.resize((40, 80)).save(tmp_path / "two.jpg")
    words = [str(tmp_path / name) for name in ("one.png", "two.jpg")]
    out = tmp_path / "drawn"
    command_line.main([*words, "--runs", str(trained), "--out", str(out), "--size", "64"])
    printed = capsys.readouterr().out
    assert "one-stylised.png, 64 x 45 pixels" in printed and "two-stylised.png, 32 x 64 pixels" in printed
    model, _ = fast_style.restore(max(trained.rglob("summary.json")).parent)
    pixels = picture.read_whole(tmp_path / "one.png", 64)
    expected = pictures.as_bytes(stylise(model, pictures.as_floats(pixels).unsqueeze(0))[0])
    with Image.open(out / "one-stylised.png") as drawn:
        assert torch.equal(torch.from_numpy(np.array(drawn)).permute(2, 0, 1), expected)


def test_stylise_rejects_wrong_input(trained, tmp_path, fails, monkeypatch):
    def message(*words):
        return fails(command_line.main, [*map(str, words), "--runs", str(trained), "--out", str(tmp_path / "drawn")])

    assert "none.jpg does not exist: give a picture file" in message("none.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    assert "text.jpg: it is not a picture in a known format" in message(tmp_path / "text.jpg")
    png_header(tmp_path / "huge.png", 30_000, 30_000)
    assert "huge.png: it has more than 100 million pixels" in message(tmp_path / "huge.png")
    Image.new("RGB", (300, 20)).save(tmp_path / "small.png")
    assert "small.png: both sides must have at least 32 pixels, got 300 x 20" in message(tmp_path / "small.png")
    monkeypatch.setattr(command_line, "MOST", 4_000)
    Image.new("RGB", (80, 60)).save(tmp_path / "large.png")
    assert "at most 4,000 pixels, reduce it with --size, got 80 x 60" in message(tmp_path / "large.png")
    assert "--size must be at least 32, got 8" in message("a.jpg", "--size", 8)
    assert "must have different names, got a" in message("a.jpg", "b/a.png")
    assert "has no finished run: train one with python -m ch06_cnn.train fast_style" in fails(
        command_line.main, ["a.jpg", "--runs", str(tmp_path)]
    )


# The comparison of feature networks.


def test_networks_without_weights_are_skipped_and_the_others_compared(options, monkeypatch, capsys):
    monkeypatch.setattr(features.vgg16, "find_spec", lambda name: None)
    config = style_features.Config(features=("vgg", "own", "random"), size=48, epochs=1, steps=1, run=options)
    metrics = style_features.train(config)
    printed = capsys.readouterr().out
    assert "vgg: no weights of VGG-16" in printed and "own: " in printed and "has no finished run" in printed
    assert {"random_train_seconds", "random_style_loss"} <= set(metrics)
    assert not any(name.startswith(("vgg", "own")) for name in metrics)
    folder = next(path.parent for path in options.out.rglob("features.png"))
    alone = style.Config(size=48, epochs=1, steps=1, run=replace(options, out=options.out / "alone"))
    assert metrics["random_style_loss"] == style.train(alone)["style_loss"]
    assert (folder / "networks" / "random").is_dir()
    with pytest.raises(ValueError, match="must name a network whose weights are on this machine, got vgg own"):
        style_features.train(replace(config, features=("vgg", "own")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ()}, "--features must name at least one of random, own, efficientnet, vgg, got none"),
        ({"size": 30}, "--size must be between 32 and 2048, got 30"),
        ({"steps": 0}, "--steps must be a number above 0, got 0"),
    ],
)
def test_wrong_settings_of_the_comparison_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        style_features.Config(**changes)
