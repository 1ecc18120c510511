"""Segmentation: training, repeatability, restore, cross-validation, export, and `segment` on image files."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import common.runs
from ch06_cnn import segment as command_line
from ch06_cnn.segmentation import baselines, cross_validation, segmentation
from ch06_cnn.segmentation.evaluation import segment
from ch06_cnn.segmentation.measures import confusion_matrix, measure, pixel_accuracy
from ch06_cnn.segmentation.segmentation import Config, make_model, make_optimizer, train_step
from common.averaging import WeightAverage
from common.config import RunOptions
from common.config import command_line as command_line_of
from common.data.masks.loading import Slices, divide, load_masks, load_slices, masked
from common.data.masks.masked import VOID, MaskedImages, MaskSet
from common.data.scenes.drawing import draw_scenes
from common.data.source import DataCard
from conftest import train_until
from test_masks import make_folder


@pytest.fixture(scope="module")
def scenes() -> MaskSet:
    return load_masks("scenes", size=(64, 64), limit=24)


@pytest.fixture
def config(options):
    return Config(epochs=2, batch_size=8, width=4, run=options)


@pytest.mark.parametrize("network", ["unet", "fcn"])
def test_four_images_are_overfitted(config, network):
    torch.manual_seed(0)
    config = replace(config, network=network, width=8)
    scenes = masked(draw_scenes(4, torch.Generator().manual_seed(0)))
    few = MaskedImages(scenes.pixels[..., 16:48, 16:48], scenes.masks[..., 16:48, 16:48])
    model = make_model(7, config)
    optimizer = make_optimizer(model, config)

    def learned():
        return pixel_accuracy(confusion_matrix(few.masks, segment(model, few.pixels), 7)) > 0.96

    train_until(learned, lambda: train_step(model, optimizer, few.pixels, few.masks, dice=0.5), at_most=400, every=10)


def test_training_is_repeatable_restores_and_writes_its_files(config, scenes, monkeypatch):
    first = segmentation.train(config, scenes)
    monkeypatch.setattr(segmentation, "report", lambda *_: None)
    second = segmentation.train(config, scenes)
    assert {"test_pixel_accuracy", "test_mean_iou", "test_background_iou", "parameters"} <= set(first)
    assert all(first[name] == second[name] for name in first if "per_second" not in name and "seconds" not in name)
    folders = [path.parent for path in sorted(config.run.out.rglob("model.safetensors"))]
    (one, names, restored), (two, _, _) = (common.runs.load(folder) for folder in folders)
    assert restored == config and names == scenes.class_names
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    files = {path.name for path in folders[0].iterdir()}
    assert {"predictions.png", "worst.png", "confusion.png", "curves.png", "classes.json"} <= files
    n = confusion_matrix(scenes.test.masks, segment(one, scenes.test.pixels, batch_size=config.batch_size), 7)
    assert measure(n, names)["mean_iou"] == first["test_mean_iou"], "the saved weights are those that were evaluated"
    history = [json.loads(line) for line in (folders[0] / "metrics.jsonl").read_text().splitlines()]
    assert all({"valid_mean_iou", "valid_pixel_accuracy"} <= set(row) for row in history)
    (folders[0] / "classes.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"classes.json does not exist: has this run finished\?"):
        segmentation.restore(folders[0])


def test_the_loop_augments_shuffles_and_averages(config, scenes, monkeypatch):
    seen, rates, averaged = [], [], []

    def watch(parallel, optimizer, pixels, masks, *, dice, bf16):
        seen.append((pixels.clone(), masks.clone()))
        rates.append(optimizer.param_groups[0]["lr"])
        return torch.tensor(1.0)

    monkeypatch.setattr(segmentation, "train_step", watch)
    monkeypatch.setattr(segmentation, "report", lambda *_: None)
    monkeypatch.setattr(WeightAverage, "update", lambda self, model: averaged.append(1))
    segmentation.train(replace(config, epochs=4, augment=False), scenes)
    assert len(averaged) == 12
    stored = {(image.numpy().tobytes(), mask.numpy().tobytes()) for image, mask in zip(*pair(scenes), strict=True)}
    plain = [(i.numpy().tobytes(), m.numpy().tobytes()) for p, ms in seen for i, m in zip(p, ms, strict=True)]
    assert set(plain) == stored and plain[:24] != plain[24:48], "every epoch has another order"
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.05) and rates[-1] < 0.1 * config.learning_rate
    seen.clear()
    segmentation.train(replace(config, epochs=1), scenes)
    assert all(pixels.is_floating_point() for pixels, _ in seen)
    masks = {mask.numpy().tobytes() for _, masks in seen for mask in masks}
    assert len(masks - {mask for _, mask in stored}) > 12


def pair(data):
    return data.train.pixels, data.train.masks


def test_without_validation_set_only_the_loss_is_logged(config, scenes, monkeypatch):
    monkeypatch.setattr(segmentation, "train_step", lambda *a, **k: torch.tensor(1.0))
    data = replace(scenes, valid=scenes.valid[:0])
    metrics = segmentation.train(replace(config, epochs=1), data)
    assert not any(name.startswith("valid") for name in metrics)


def test_void_pixels_are_ignored_in_training_and_measures(config, scenes, monkeypatch):
    """With all pixels of one class void, that class has neither loss nor measure."""
    monkeypatch.setattr(segmentation, "report", lambda *_: None)

    def without(split):
        return MaskedImages(split.pixels, split.masks.masked_fill(split.masks == 1, VOID))

    data = MaskSet(scenes.card, scenes.class_names, *map(without, (scenes.train, scenes.valid, scenes.test)))
    metrics = segmentation.train(replace(config, epochs=1), data)
    assert math.isfinite(metrics["test_mean_iou"])
    assert metrics.get("test_disc_iou", 0) == 0


def test_a_folder_of_your_own_trains(config, tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "report", lambda *_: None)
    own = replace(
        Config(data="voc", folder=make_folder(tmp_path / "own"), network="unet", depth=2, input_size=(16, 32)),
        width=4,
        epochs=1,
        run=config.run,
    )
    metrics = segmentation.train(own)
    assert {"test_background_iou", "test_class_1_iou", "test_class_2_iou"} <= set(metrics)
    words = command_line_of(segmentation.__name__, own).split()
    assert words[4:8] == ["--data", "voc", "--folder", str(own.folder)]
    assert "--zoom" not in words and "--network" in words


def test_a_pretrained_backbone_learns_slowly(config, tmp_path):
    config = replace(
        config, network="fcn", backbone="efficientnet-lite0", data="voc", folder=tmp_path, input_size=(64, 64)
    )
    groups = make_optimizer(make_model(3, config), config).param_groups
    assert [group["peak"] for group in groups] == [config.learning_rate, pytest.approx(config.learning_rate / 10)]
    assert sum(len(group["params"]) for group in groups) == len(list(make_model(3, config).parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (60, 64)}, "--input-size must be 64 64 for scenes, got 60 64"),
        ({"data": "voc"}, "--folder FOLDER and --data voc belong together, got voc"),
        ({"depth": 5, "data": "cells", "input_size": (128, 130)}, "--input-size must be 128 128 for cells"),
        ({"depth": 7}, "--depth must be at most 6, got 7"),
        ({"crop": 30}, "--crop must be a multiple of 8, at most 64, got 30"),
        ({"crop": 72}, "--crop must be a multiple of 8, at most 64, got 72"),
        ({"skips": 3}, "--skips must be 0, 1 or 2, got 3"),
        ({"dice": -1.0}, "--dice must be a number of at least 0, got -1.0"),
        ({"zoom": 0.5}, "--zoom must be between 1 and 4, got 0.5"),
        ({"elastic": 200.0}, "--elastic must be between 0 and 100 pixels, got 200.0"),
        ({"averaging": 1.0}, "--averaging must be at least 0 and below 1, got 1.0"),
        ({"fold": 6}, "--fold must be between 1 and 5, got 6"),
        ({"folds": 1}, "--folds must be at least 2, got 1"),
        ({"learning_rate": math.inf}, "--learning-rate must be a number above 0, got inf"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_the_input_size_must_fit_the_network(tmp_path):
    settings = {"data": "voc", "folder": tmp_path}
    with pytest.raises(ValueError, match="--input-size must be multiples of 16, got 100 128"):
        Config(**settings, input_size=(100, 128), network="unet")
    with pytest.raises(ValueError, match="--input-size must be multiples of 32, got 112 112"):
        Config(**settings, input_size=(112, 112))
    assert Config(**settings, input_size=(112, 112), network="unet").stride == 16


# Cross-validation.


def test_cross_validation_tests_every_slice_once(options, monkeypatch, capsys):
    cells = load_slices("cells")
    few = Slices(MaskedImages(cells.images.pixels[:6, :, :64, :64], cells.images.masks[:6, :64, :64]), cells.card)
    seen = []

    def pretend(own, data):
        seen.append((own, data))
        model = make_model(2, own)
        with segmentation.Run.open(segmentation.__name__, own, data.card) as run:
            run.save(model)
            segmentation.write_json(run.folder / "classes.json", list(data.class_names))
            return run.finish(test={"mean_iou": 0.5})

    monkeypatch.setattr(segmentation, "train", pretend)
    config = cross_validation.Config(data="cells", network="fcn", folds=3, epochs=1, run=options)
    metrics = cross_validation.train(config, few)
    assert [(own.fold, own.folds, own.network, own.epochs) for own, _ in seen] == [(n, 3, "fcn", 1) for n in (1, 2, 3)]
    tested = torch.cat([data.test.masks for _, data in seen])
    assert torch.equal(tested, few.images.masks), "each slice is tested once, in order"
    for number, (_, data) in enumerate(seen):
        assert len(data.train) == 4 and len(data.valid) == 0
        expected = torch.cat([few.images.masks[: 2 * number], few.images.masks[2 * number + 2 :]])
        assert torch.equal(data.train.masks, expected)
    per_fold = [metrics[f"test_fold_{number}_membrane_iou"] for number in (1, 2, 3)]
    assert metrics["test_membrane_iou"] == pytest.approx(sum(per_fold) / 3)
    by_hand = [
        cross_validation.measure(data.test, baselines.fit_threshold(data.train).segment(data.test.pixels))
        for _, data in seen
    ]
    assert metrics["threshold_membrane_iou"] == pytest.approx(sum(each["membrane_iou"] for each in by_hand) / 3)
    assert metrics["threshold_pixel_error_rate"] == pytest.approx(sum(each["pixel_error_rate"] for each in by_hand) / 3)
    assert {"otsu_membrane_iou", "otsu_pixel_error_rate"} <= set(metrics)
    printed = capsys.readouterr().out
    assert "IoU of the membranes" in printed and "fold 3" in printed and "mean" in printed
    (folder,) = (config.run.out / "ch06_cnn" / "cross_validation").iterdir()
    assert {"errors.png", "membrane_iou.png", "pixel_error_rate.png"} <= {path.name for path in folder.iterdir()}
    # a resumed run does not train the finished folds again
    (folder / "summary.json").unlink()
    seen.clear()
    again = cross_validation.train(replace(config, run=replace(config.run, resume=True)), few)
    assert seen == [] and again["test_membrane_iou"] == metrics["test_membrane_iou"]


def test_the_network_beats_the_threshold_on_cells(options):
    """A threshold cannot distinguish membranes from dark discs and rings."""
    cells = load_slices("cells").images
    train, test = cells[:4], cells[15:16]
    config = Config(data="cells", width=8, run=options)
    torch.manual_seed(0)
    model = make_model(2, config)
    optimizer = make_optimizer(model, config)
    threshold = cross_validation.measure(test, baselines.fit_threshold(train).segment(test.pixels))["membrane_iou"]

    def better():
        return cross_validation.measure(test, segment(model, test.pixels))["membrane_iou"] > threshold + 0.05

    train_until(better, lambda: train_step(model, optimizer, train.pixels, train.masks), at_most=300, every=10)


def test_cross_validation_rejects_wrong_input(options):
    with pytest.raises(ValueError, match="--folds must be at least 2, got 1"):
        cross_validation.Config(folds=1)
    few = Slices(load_slices("cells").images[:3], DataCard("cells", True, "", ""))
    with pytest.raises(ValueError, match="--folds must be at most the number of slices, 3, got 5"):
        cross_validation.train(cross_validation.Config(run=options), few)
    assert cross_validation.Config().data == "cells", "the membranes are not in DATA_DIR"
    with pytest.raises(FileNotFoundError, match=r"membranes are not in .*: copy the slices of the ISBI challenge"):
        cross_validation.train(cross_validation.Config(data="membranes", run=options))


# Export, and image files.


@pytest.mark.slow
@pytest.mark.parametrize("network", ["unet", "fcn"])
def test_the_exported_graph_equals_the_network_for_other_sizes(network, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install '.[export]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[export]'")
    torch.manual_seed(0)
    model = make_model(3, Config(network=network, width=4, depth=3)).eval()
    images = torch.randint(256, (2, 3, 32, 40), dtype=torch.uint8)
    shapes = {0: torch.export.Dim("batch"), 2: 8 * torch.export.Dim("rows"), 3: 8 * torch.export.Dim("columns")}
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=(shapes,))
        made = torch.onnx.export(program, input_names=["images"], dynamo=True, external_data=False, verbose=False)
    assert made is not None
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((2, 3, 32, 40), (1, 3, 48, 16), (3, 3, 8, 64)):
        images = torch.randint(256, size, dtype=torch.uint8)
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(images), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes):
    out = tmp_path_factory.mktemp("runs")
    run = RunOptions(device="cpu", precision="fp32", threads=1, out=out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "report", lambda *_: None)
        segmentation.train(Config(epochs=1, batch_size=8, width=4, run=run), scenes)
    return out


def test_segment_writes_masks_in_the_size_of_the_file(trained, tmp_path, capsys):
    picture = draw_scenes(1, torch.Generator().manual_seed(5)).pixels[0].permute(1, 2, 0).numpy()
    Image.fromarray(picture).crop((0, 0, 50, 37)).save(tmp_path / "odd.png")
    out = tmp_path / "drawn"
    command_line.main([str(tmp_path / "odd.png"), "--runs", str(trained), "--out", str(out)])
    assert "odd.png: " in capsys.readouterr().out
    model, _, config = segmentation.restore(next(path.parent for path in trained.rglob("model.safetensors")))
    pixels, mask = command_line.find_mask(model, config, tmp_path / "odd.png")
    assert pixels.shape == (3, 37, 50) and mask.shape == (37, 50)
    extended = torch.nn.functional.pad(pixels.float()[None], (0, 6, 0, 3), mode="replicate")
    assert torch.equal(mask, model(extended).argmax(1)[0, :37, :50].to(torch.uint8))
    with Image.open(out / "odd-mask.png") as saved:
        assert saved.mode == "P" and saved.size == (50, 37)
        assert np.asarray(saved).tolist() == mask.tolist(), "the values are the classes"
        assert (saved.getpalette() or [])[3:6] == [128, 0, 0]
    with Image.open(out / "odd-segmented.png") as drawn:
        assert drawn.width > 500


def test_segment_resizes_for_a_network_that_was_trained_on_resized_images(trained, tmp_path, monkeypatch):
    Image.new("RGB", (128, 32), (200, 0, 0)).save(tmp_path / "red.png")
    model, _, config = segmentation.restore(next(path.parent for path in trained.rglob("model.safetensors")))
    config = replace(config, data="voc", folder=tmp_path, input_size=(64, 64))

    def fixed(pixels):
        assert pixels.shape == (1, 3, 64, 64)
        logits = torch.zeros(1, 7, 64, 64)
        logits[:, 2, :16] = 1  # the upper quarter
        return logits

    monkeypatch.setattr(model, "forward", fixed)
    _, mask = command_line.find_mask(model, config, tmp_path / "red.png")
    assert mask.shape == (32, 128) and (mask[:8] == 2).all() and not mask[8:].any()


def test_segment_rejects_wrong_input(trained, tmp_path, fails, monkeypatch):
    assert "does not exist: give an image file" in fails(command_line.main, ["none.jpg", "--runs", str(trained)])
    (tmp_path / "text.jpg").write_text("no image")
    message = fails(command_line.main, [str(tmp_path / "text.jpg"), "--runs", str(trained)])
    assert "text.jpg cannot be read as an image" in message
    assert "has no finished run" in fails(command_line.main, ["a.jpg", "--runs", str(tmp_path)])
    assert "must have different names, got a" in fails(command_line.main, ["a.jpg", "b/a.png"])
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    monkeypatch.setattr(command_line, "MOST_PIXELS", 1_000)
    message = fails(command_line.main, [str(tmp_path / "large.png"), "--runs", str(trained)])
    assert "large.png must have at most 1,000 pixels, got 40 × 30 pixels" in message


def test_the_slices_of_a_fold_are_consecutive():
    cells = load_slices("cells")
    for fold in range(1, 8):
        data = divide(cells, fold, 7)
        assert len(data.train) + len(data.test) == 30
        starts = [number for number in range(30) if torch.equal(cells.images.masks[number], data.test.masks[0])]
        assert starts == [(fold - 1) * 30 // 7]
        assert torch.equal(cells.images.masks[starts[0] : starts[0] + len(data.test)], data.test.masks)
        assert data.card.description.startswith(
            f"fold {fold} of 7: {len(data.train)} train, {len(data.test)} test of 30"
        )
