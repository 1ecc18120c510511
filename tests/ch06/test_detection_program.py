"""Detection: training, repeatability, restore, the detector's parts, and `detect` on image files."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from ch06_cnn import detect as command_line
from ch06_cnn.architectures.efficientnet_lite import EfficientNetLite
from ch06_cnn.detection import detection
from ch06_cnn.detection.augment import augment
from ch06_cnn.detection.detection import Config, make_model, make_optimizer, set_progress, train_step
from ch06_cnn.detection.evaluation import detect, measure
from ch06_cnn.detection.network import Detector, LiteBackbone
from common.averaging import WeightAverage
from common.config import changed_flags
from common.data.boxes.boxed import BoxedImages, BoxSet
from common.data.boxes.loading import boxed, load_boxes
from common.data.scenes.drawing import draw_scenes
from common.data.scenes.painting import SHAPE_NAMES
from common.data.source import DataCard
from conftest import train_until


@pytest.fixture(scope="module")
def scenes() -> BoxSet:
    return load_boxes("scenes", size=(64, 64), limit=24)


@pytest.fixture
def config(options):
    return Config(epochs=2, batch_size=8, width=4, filters=8, run=options)


@pytest.mark.parametrize("head", ["ssd", "yolo"])
@pytest.mark.parametrize("backbone", ["small", "efficientnet-lite0"])
def test_every_weight_has_a_gradient(config, scenes, head, backbone):
    torch.manual_seed(0)
    model = make_model(6, replace(config, head=head, backbone=backbone))
    batch = scenes.train[:4]
    outputs = model(batch.pixels)
    model.head.loss(outputs, batch.boxes, batch.labels).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    found = detect(model, batch.pixels, batch_size=3)
    assert found.boxes.shape == (4, 100, 4) and model.training
    assert found.boxes.min() >= 0 and found.boxes.max() <= 64
    assert (found.scores[:, :-1] >= found.scores[:, 1:]).all()


@pytest.mark.parametrize("head", ["ssd", "yolo"])
def test_eight_images_are_overfitted(config, head):
    torch.manual_seed(0)
    config = replace(config, head=head, width=8, filters=16, learning_rate=3e-3)
    few = boxed(draw_scenes(8, torch.Generator().manual_seed(0)))
    model = make_model(6, config)
    optimizer = make_optimizer(model, config)
    train_until(
        lambda: measure(detect(model, few.pixels), few, SHAPE_NAMES)["map50"] > 0.9,
        lambda: train_step(model, model.head, optimizer, few.pixels, few.boxes, few.labels),
        at_most=600,
        every=25,
    )


def test_training_is_repeatable_restores_and_writes_its_files(config, scenes, monkeypatch):
    first = detection.train(config, scenes)
    monkeypatch.setattr(detection, "report", lambda *_: None)
    second = detection.train(config, scenes)
    assert {"test_map50", "test_map75", "test_map", "test_disc_ap50", "inference_images_per_second"} <= set(first)
    assert all(first[name] == second[name] for name in first if "per_second" not in name and "seconds" not in name)
    folders = [path.parent for path in sorted(config.run.out.rglob("model.safetensors"))]
    (one, names, restored), (two, _, _) = (detection.restore(folder) for folder in folders)
    assert restored == config and names == SHAPE_NAMES
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    files = {path.name for path in folders[0].iterdir()}
    assert {"detections.png", "precision_recall.png", "errors.png", "curves.png", "classes.json"} <= files
    found = measure(detect(one, scenes.test.pixels, batch_size=config.batch_size), scenes.test, names)
    assert found["map"] == pytest.approx(first["test_map"], abs=1e-6), "the saved weights are those that were evaluated"
    history = [json.loads(line) for line in (folders[0] / "metrics.jsonl").read_text().splitlines()]
    assert all({"valid_map50", "valid_map75"} <= set(row) for row in history)
    (folders[0] / "classes.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"classes.json does not exist: has this run finished\?"):
        detection.restore(folders[0])


def test_the_loop_augments_shuffles_and_averages(config, scenes, monkeypatch):
    seen, rates, averaged = [], [], []

    def watch(parallel, head, optimizer, pixels, boxes, labels, *, bf16):
        seen.append((pixels.clone(), boxes.clone()))
        rates.append(optimizer.param_groups[1]["lr"])
        return torch.tensor(1.0)

    monkeypatch.setattr(detection, "train_step", watch)
    monkeypatch.setattr(detection, "report", lambda *_: None)
    monkeypatch.setattr(WeightAverage, "update", lambda self, model: averaged.append(1))
    detection.train(replace(config, epochs=4, augment=False), scenes)
    assert len(averaged) == 12
    stored = {image.numpy().tobytes() for image in scenes.train.pixels}
    plain = [image.numpy().tobytes() for pixels, _ in seen for image in pixels]
    assert set(plain) == stored and plain[:24] != plain[24:48], "every epoch has another order"
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.05) and rates[-1] < 0.1 * config.learning_rate
    seen.clear()
    detection.train(replace(config, epochs=1), scenes)
    assert all(pixels.is_floating_point() for pixels, _ in seen)
    edges = {tuple(box) for box in scenes.train.boxes.flatten(0, 1).tolist()}
    moved = [tuple(box) for _, boxes in seen for box in boxes.flatten(0, 1).tolist() if any(box)]
    assert len(set(moved) - edges) > len(moved) / 2


def test_training_and_validation_set_together(config, scenes, monkeypatch):
    seen = []
    monkeypatch.setattr(detection, "report", lambda *_: None)
    monkeypatch.setattr(detection, "train_step", lambda *a, **k: seen.append(len(a[3])) or torch.tensor(1.0))
    metrics = detection.train(replace(config, epochs=1, train_on_valid=True), scenes)
    assert sum(seen) == 48
    assert not any(name.startswith("valid") for name in metrics)


def test_a_frozen_backbone_keeps_its_weights_and_the_rest_learns(config, scenes):
    torch.manual_seed(0)
    config = replace(config, frozen=0.5)
    model = make_model(6, config)
    optimizer = make_optimizer(model, config)
    batch = scenes.train.pixels, scenes.train.boxes, scenes.train.labels

    def moved(part):
        before = [p.clone() for p in part.parameters()]
        train_step(model, model.head, optimizer, *batch)
        return any(not torch.equal(p, q) for p, q in zip(part.parameters(), before, strict=True))

    for done, expected in ((0.3, False), (0.6, True)):
        set_progress(model, optimizer, done, config)
        assert moved(model.backbone) == expected
        assert moved(model.pyramid) and moved(model.head)


def test_a_frozen_backbone_needs_a_single_process(config, scenes, monkeypatch):
    """DistributedDataParallel expects a gradient of every weight that it has wrapped."""
    monkeypatch.setattr(detection, "distributed", SimpleNamespace(world_size=lambda: 2))
    with pytest.raises(ValueError, match=r"--frozen must be 0 with several processes, got 0.5"):
        detection.train(replace(config, frozen=0.5), scenes)


def test_a_pretrained_backbone_uses_its_running_statistics_and_learns_slowly(config, scenes):
    config = replace(config, backbone="efficientnet-lite0", data="bccd", input_size=(64, 64))
    model = make_model(6, config)
    before = {name: buffer.clone() for name, buffer in model.backbone.named_buffers()}
    model.train()(scenes.train.pixels[:2])
    assert all(torch.equal(before[name], buffer) for name, buffer in model.backbone.named_buffers())
    assert all(module.training for module in model.pyramid.modules())
    rates = [group["peak"] for group in make_optimizer(model, config).param_groups]
    assert rates == [pytest.approx(config.learning_rate / 10), config.learning_rate]


def test_the_maps_of_efficientnet_are_those_of_the_network(config):
    network = EfficientNetLite().eval()
    pixels = torch.randn(1, 3, 64, 96)
    fine, coarse = LiteBackbone(network)(pixels)
    maps = network.feature_maps(pixels)
    assert torch.equal(fine, maps[8]) and torch.equal(coarse, maps[16])


def test_weight_average_by_hand():
    model = torch.nn.Linear(1, 1)
    average = WeightAverage(model, 0.5)
    start, values = float(average.model.weight), [1.0, 2.0, 4.0]
    expected = start
    for number, value in enumerate(values, start=1):
        model.weight.data.fill_(value)
        average.update(model)
        decay = min(0.5, number / (number + 10))
        expected = decay * expected + (1 - decay) * value
    assert float(average.model.weight) == pytest.approx(expected, rel=1e-6)
    other = WeightAverage(model, 0.5)
    other.load_state_dict(average.state_dict())
    assert other.steps == 3 and torch.equal(other.model.weight, average.model.weight)


def test_augment_keeps_the_shapes_and_draws_new_numbers(scenes):
    batch = scenes.train.pixels, scenes.train.boxes, scenes.train.labels
    torch.manual_seed(0)
    one, other = augment(*batch, zoom=1.25, upside_down=True), augment(*batch, zoom=1.25, upside_down=True)
    assert one[0].shape == batch[0].shape and one[1].shape == batch[1].shape and one[2].shape == batch[2].shape
    assert one[0].min() >= 0 and one[0].max() <= 255
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (60, 64)}, "--input-size must be multiples of 8, got 60 64"),
        ({"input_size": (32, 32)}, "--input-size must be 64 64 for scenes, got 32 32"),
        ({"data": "voc"}, "--folder FOLDER and --data voc belong together, got voc"),
        ({"frozen": 1.5}, "--frozen must be between 0 and 1, got 1.5"),
        ({"zoom": 0.5}, "--zoom must be between 1 and 4, got 0.5"),
        ({"averaging": 1.0}, "--averaging must be at least 0 and below 1, got 1.0"),
        ({"anchors": (8.0, 0.0, 1.0, 1.0)}, "--anchors must be a number above 0, got 0.0"),
        ({"learning_rate": math.inf}, "--learning-rate must be a number above 0, got inf"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_the_command_of_a_run_with_a_folder(config, tmp_path):
    own = Config(data="voc", folder=tmp_path, epochs=3)
    words = ["--data", "voc", "--folder", str(tmp_path), "--epochs", "3"]
    assert changed_flags(own) == words


def test_data_without_boxes_trains(config, options):
    """Images without any box: the loss has only its terms for the ground, and all measures are 0."""
    empty = BoxedImages(
        torch.zeros(8, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(8, 2, 4),
        torch.full((8, 2), -1),
        torch.zeros(8, 2, dtype=torch.bool),
    )
    data = BoxSet(DataCard("empty", True, "0", "empty"), ("one", "two"), empty, empty, empty)
    metrics = detection.train(replace(config, head="yolo", epochs=1), data)
    assert metrics["test_map50"] == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes):
    from common.config import RunOptions

    out = tmp_path_factory.mktemp("runs")
    run = RunOptions(device="cpu", precision="fp32", threads=1, out=out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "report", lambda *_: None)
        detection.train(Config(epochs=1, batch_size=8, width=4, filters=8, run=run), scenes)
    return out


@pytest.mark.figures
def test_detect_prints_and_draws_objects_in_pixels_of_the_file(trained, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (128, 32), (200, 0, 0)).save(tmp_path / "red.png")
    model, names, config = detection.restore(next(path.parent for path in trained.rglob("model.safetensors")))

    def fixed(self, pixels):
        assert pixels.shape == (1, 3, 64, 64)
        outputs = torch.zeros(1, len(self.head.anchors), 11)
        outputs[..., 0] = 20
        outputs[0, 5 * 4, :2] = torch.tensor([0.0, 20.0])  # the small square at the sixth position
        return outputs

    monkeypatch.setattr(Detector, "forward", fixed)
    pixels, objects = command_line.find(model, names, config.input_size, tmp_path / "red.png", 0.5)
    assert pixels.shape == (3, 32, 128)
    (found,) = objects
    assert found.name == "disc" and found.score == pytest.approx(1, abs=1e-4)
    assert found.box == pytest.approx((18 * 2, 0, 26 * 2, 6 / 2), abs=1e-4), "twice as wide and half as high as 64 × 64"
    out = tmp_path / "drawn"
    command_line.main([str(tmp_path / "red.png"), "--runs", str(trained), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "red.png: 1 disc" in printed and "disc 1.00  (36, 0) to (52, 3)" in printed
    with Image.open(out / "red-detected.png") as drawn:
        assert drawn.width > 500


def test_detect_rejects_wrong_input(trained, tmp_path, fails):
    assert "does not exist: give an image file" in fails(command_line.main, ["none.jpg", "--runs", str(trained)])
    (tmp_path / "text.jpg").write_text("no image")
    message = fails(command_line.main, [str(tmp_path / "text.jpg"), "--runs", str(trained)])
    assert "text.jpg cannot be read as an image" in message
    assert "has no finished run" in fails(command_line.main, ["a.jpg", "--runs", str(tmp_path)])
    assert "--threshold must be between 0 and 1, got 2" in fails(command_line.main, ["a.jpg", "--threshold", "2"])
    assert "must have different names, got a" in fails(command_line.main, ["a.jpg", "b/a.png"])
