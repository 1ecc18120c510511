"""The stages of the pipeline, called as functions: what they make, vouch for, refuse and put into quarantine."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from ch06_cnn.convolution import cnn
from ch09_pipeline import contract, sources
from ch09_pipeline.card import checksum, read_card
from ch09_pipeline.stages.compare import compare
from ch09_pipeline.stages.evaluate import evaluate
from ch09_pipeline.stages.predict import predict, read_pictures
from ch09_pipeline.stages.prepare import decode, prepare, read_prepared
from ch09_pipeline.stages.publish import publish
from ch09_pipeline.stages.train import read_class_names, train
from common.data.images.binary import CIFAR_RECORD, decode_cifar
from common.data.images.cifar import encode_cifar
from common.data.images.shapes import NAMES, draw_shapes
from conftest import ROOT

FLAGS: dict[str, Any] = {
    "variant": "dropout",
    "epochs": 1,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "seed": 0,
    "limit": None,
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
}


def flags(**change: Any) -> dict[str, Any]:
    """The settings of a short training, but for some."""
    return FLAGS | change


def draw(count: int, seed: int = 0) -> bytes:
    return encode_cifar(draw_shapes(count, torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every stage's result on three batches, made once; tests that change something work on a copy."""
    home = tmp_path_factory.mktemp("made")
    (home / "data").mkdir()
    for seed, name in enumerate(("batch-1", "batch-2", "test-1")):
        (home / f"data/{name}.bin").write_bytes(draw(60, seed))
    (home / "data/batches.meta.txt").write_text("\n".join(NAMES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn, "report", lambda *_: None)
        prepare([home / "data"], home / "prepare")
        for variant in ("dropout", "nodropout"):
            train([home / "prepare", home / "data"], home / "train", **flags(variant=variant))
    evaluate([home / "train", home / "prepare"], home / "evaluate", threads=1)
    compare([home / "evaluate"], home / "compare")
    publish([home / "compare", home / "train"], home / "publish", threshold=0)
    return home


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


# Prepare.


def test_tensors_are_the_batch_and_the_card_says_what_is_in_them(made):
    pixels, labels = decode_cifar((made / "data/batch-1.bin").read_bytes(), "")
    tensors = load_file(made / "prepare/batch-1.safetensors")
    np.testing.assert_array_equal(tensors["pixels"], pixels)
    np.testing.assert_array_equal(tensors["labels"], labels)
    card = read_card(made / "prepare/batch-1.json")
    assert card.facts["images"] == 60
    assert card.facts["images_per_class"] == [6] * 10
    assert card.facts["channel_means"] == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-3)
    assert card.facts["held_out"] == tensors["held_out"].sum() > 0
    assert card.inputs == {"batch-1.bin": checksum(made / "data/batch-1.bin")}
    assert [read_card(made / f"prepare/{name}.json").facts["split"] for name in ("batch-2", "test-1")] == [
        "train",
        "test",
    ]
    assert not load_file(made / "prepare/test-1.safetensors")["held_out"].any()
    assert not (made / "prepare/batches.meta.json").exists()


def test_an_image_stays_on_its_side_of_the_split_wherever_it_lies(made, tmp_path):
    data = (made / "data/batch-1.bin").read_bytes()
    turned = b"".join(reversed([data[i : i + CIFAR_RECORD] for i in range(0, len(data), CIFAR_RECORD)]))
    (tmp_path / "batch-9.bin").write_bytes(turned)
    prepare([tmp_path / "batch-9.bin"], tmp_path / "out")
    before, after = (
        load_file(path)["held_out"]
        for path in (made / "prepare/batch-1.safetensors", tmp_path / "out/batch-9.safetensors")
    )
    np.testing.assert_array_equal(after, before[::-1])


def test_about_a_tenth_is_held_out(tmp_path):
    (tmp_path / "batch.bin").write_bytes(draw(2_000))
    prepare([tmp_path / "batch.bin"], tmp_path)
    assert 150 < load_file(tmp_path / "batch.safetensors")["held_out"].sum() < 250


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "x.bin is not a CIFAR-10 binary file: 0 bytes are not a whole number of records of 3,073"),
        (bytes(100), "x.bin is not a CIFAR-10 binary file: 100 bytes"),
        (draw(3)[:-1], "9,218 bytes are not a whole number"),
        (b"\x0a" + draw(2)[1:], "x.bin has label 10 at image 0"),
        (draw(2) + bytes(CIFAR_RECORD), "x.bin has an image of a single colour, number 2"),
    ],
)
def test_a_broken_batch_goes_into_quarantine_with_its_reason_and_the_rest_goes_on(tmp_path, content, reason):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x.bin").write_bytes(content)
    (tmp_path / "data/y.bin").write_bytes(draw(5))
    said = prepare([tmp_path / "data"], tmp_path / "out")
    assert said.splitlines()[0].startswith("quarantined x.bin: ")
    card = read_card(tmp_path / "out/x.json")
    assert reason in card.facts["quarantined"]
    assert card.facts["images"] == 0
    assert read_card(tmp_path / "out/y.json").facts["quarantined"] is None
    pixels, labels, held_out = read_prepared([card, read_card(tmp_path / "out/y.json")])
    assert pixels.shape == (5, 3, 32, 32)
    assert len(labels) == len(held_out) == 5


@st.composite
def batches(draw):
    """Bytes that are nearly a batch: records of few colours, one of them perhaps cut short."""
    seed = draw(st.integers(0, 2**32 - 1))
    labels = draw(st.lists(st.integers(0, 11), max_size=3))
    colours = draw(st.integers(1, 3))
    data = np.random.default_rng(seed).integers(0, colours, (len(labels), CIFAR_RECORD), np.uint8)
    data[:, 0] = labels
    return data.tobytes()[draw(st.integers(0, 1)) :]


@given(batches() | st.binary(max_size=100))
def test_any_bytes_are_a_batch_or_a_reason(data):
    records = [data[start : start + CIFAR_RECORD] for start in range(0, len(data), CIFAR_RECORD)]
    if records and all(len(r) == CIFAR_RECORD and r[0] <= 9 and len(set(r[1:])) > 1 for r in records):
        pixels, labels = decode(data, "x.bin")
        assert labels.tolist() == [record[0] for record in records]
        assert pixels.tobytes() == b"".join(record[1:] for record in records)
    else:
        with pytest.raises(ValueError, match=r"^x\.bin "):
            decode(data, "x.bin")


def test_a_folder_without_batches_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"no batch \(\*\.bin\) in"):
        prepare([tmp_path], tmp_path / "out")


# Cards.


def test_cards_carry_everything_that_went_before(made):
    card = read_card(made / "publish/card.json")
    stages = [entry["stage"] for entry in card.lineage]
    assert sorted(stages) == ["compare"] + ["evaluate"] * 2 + ["prepare"] * 3 + ["train"] * 2
    made_by_someone = {value for entry in card.lineage for value in entry["outputs"].values()}
    raw = {checksum(path) for path in (made / "data").iterdir()}
    evaluated = {path for variant in ("dropout", "nodropout") for path in (made / f"evaluate/{variant}").iterdir()}
    compared = read_card(made / "compare/card.json").inputs
    assert set(compared.values()) == {checksum(path) for path in evaluated if path.name != "card.json"}
    assert "evaluate/nodropout/metrics.json" in compared
    for entry in (*card.lineage, card.essentials()):
        assert set(entry["inputs"].values()) <= made_by_someone | raw
    assert raw <= {value for entry in card.lineage for value in entry["inputs"].values()}


def test_a_card_does_not_vouch_for_other_files(copy):
    (copy / "prepare/batch-1.safetensors").write_bytes(b"something else")
    with pytest.raises(
        ValueError, match=r"batch-1.safetensors does not match its card batch-1.json: run prepare again"
    ):
        train([copy / "prepare"], copy / "train", **flags())
    (copy / "prepare/batch-1.safetensors").unlink()
    with pytest.raises(ValueError, match=r"batch-1.safetensors is missing, but its card"):
        evaluate([copy / "train", copy / "prepare"], copy / "evaluate", threads=1)


def test_half_a_card_is_no_card(copy):
    path = copy / "prepare/batch-1.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r"batch-1.json is not valid JSON"):
        train([copy / "prepare"], copy / "train", **flags())


def test_cards_come_in_the_order_of_numbers(tmp_path):
    for number in (10, 9, 1):
        (tmp_path / f"batch-{number}.bin").write_bytes(draw(1, number))
    prepare([tmp_path], tmp_path / "out")
    names = [card.path.stem for card in contract.cards_of([tmp_path / "out"], "prepare")]
    assert names == ["batch-1", "batch-9", "batch-10"]


def test_missing_cards_are_an_error(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"some": "thing"}))
    with pytest.raises(ValueError, match="no card of the stage prepare in"):
        contract.cards_of([tmp_path], "prepare")


# Train.


def test_training_repeats_itself_and_its_settings_count(made, tmp_path, monkeypatch):
    monkeypatch.setattr(cnn, "report", lambda *_: None)
    weights = {}
    for name, change in {"again": {}, "seed": {"seed": 1}, "epochs": {"epochs": 2}}.items():
        train([made / "prepare"], tmp_path / name, **flags(**change))
        weights[name] = checksum(tmp_path / name / "dropout/model.safetensors")
    first = checksum(made / "train/dropout/model.safetensors")
    assert weights["again"] == first
    assert len({first, *weights.values()}) == 3
    assert checksum(made / "train/nodropout/model.safetensors") != first


def test_test_batches_have_no_part_in_training(made, tmp_path, monkeypatch):
    monkeypatch.setattr(cnn, "report", lambda *_: None)
    named = [made / f"prepare/batch-{number}.json" for number in (1, 2)]
    train(named, tmp_path, **flags())
    assert checksum(tmp_path / "dropout/model.safetensors") == checksum(made / "train/dropout/model.safetensors")
    facts = read_card(made / "train/dropout/card.json").facts
    assert facts["datums"] == {"batch-1": 60, "batch-2": 60}
    held_out = sum(read_card(path).facts["held_out"] for path in named)
    assert facts["images"] == {"train": 120 - held_out, "valid": held_out}


def test_a_model_says_that_it_was_trained_on_what_it_was_trained_on(made, tmp_path):
    card = read_card(made / "train/dropout/card.json")
    batches = {f"prepare/batch-{number}.safetensors" for number in (1, 2)}
    assert card.inputs.keys() == {"batches.meta.txt"} | batches
    assert [name for entry in card.lineage for name in entry["inputs"]] == ["batch-1.bin", "batch-2.bin"]
    with pytest.raises(ValueError, match=r"^no training batch: names that begin with test are test batches"):
        train([made / "prepare/test-1.json"], tmp_path, **flags())


def test_nothing_of_the_scratch_folder_stays(made):
    assert sorted(path.name for path in (made / "train/dropout").iterdir()) == [
        "card.json",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    ]
    assert sorted(path.name for path in (made / "train").iterdir()) == ["dropout", "nodropout"]


def test_a_stopped_training_leaves_no_card_and_the_next_one_is_whole(copy, monkeypatch):
    monkeypatch.setattr(cnn, "report", lambda *_: None)
    before = checksum(copy / "train/dropout/model.safetensors")
    (copy / "train/dropout/card.json").unlink()
    scratch = copy / "train/.dropout/ch06_cnn/cnn/stopped"
    scratch.mkdir(parents=True)
    (scratch / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="no card of the stage train"):
        evaluate([copy / "train/dropout", copy / "prepare"], copy / "evaluate", threads=1)
    train([copy / "prepare"], copy / "train", **flags())
    assert read_card(copy / "train/dropout/card.json").outputs["model.safetensors"] == before
    assert not scratch.exists()


def test_only_broken_batches_are_too_few(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"broken")
    prepare([tmp_path / "x.bin"], tmp_path / "prepare")
    with pytest.raises(ValueError, match="none of 0 images is in the train split: add batches"):
        train([tmp_path / "prepare"], tmp_path / "train", **flags())


def test_class_names_must_be_ten(made, tmp_path):
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="names 2 classes, not 10"):
        train([made / "prepare", tmp_path], tmp_path / "train", **flags())
    (tmp_path / "batches.meta.txt").write_text("\n".join(["traffic light", *NAMES[1:], "", ""]))
    assert read_class_names([tmp_path / "batches.meta.txt"]) == ["traffic light", *NAMES[1:]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"limit": -5}, "--limit must be at least 1, got -5"),
        ({"threads": -1}, "--threads must be between 0 and"),
        ({"epochs": 0}, "--epochs must be a number above 0, got 0"),
    ],
)
def test_settings_that_cannot_be_train_nothing(made, tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        train([made / "prepare"], tmp_path, **flags(**bad))


def test_no_thread_can_neither_evaluate_nor_predict(made, tmp_path):
    with pytest.raises(ValueError, match="--threads must be at least 1, got 0"):
        evaluate([made / "train", made / "prepare"], tmp_path, threads=0)
    with pytest.raises(ValueError, match="--threads must be at least 1, got 0"):
        predict([made / "publish", made / "data/test-1.bin"], tmp_path, threads=0)


# Evaluate, compare, publish.


def test_metrics_are_those_of_the_network_on_the_test_batch(made):
    model, _ = cnn.restore(made / "train/dropout")
    pixels, labels = decode_cifar((made / "data/test-1.bin").read_bytes(), "")
    with torch.inference_mode():
        logits = model((torch.from_numpy(pixels.copy()).float() - 128) / 64)
    guesses = logits.argmax(1).numpy()
    card = read_card(made / "evaluate/dropout/card.json")
    assert card.facts["metrics"]["test_accuracy"] == pytest.approx((guesses == labels).mean())
    assert card.facts["images"] == 60
    by_class = json.loads((made / "evaluate/dropout/metrics.json").read_text())["class_accuracy"]
    assert list(by_class) == list(NAMES)
    assert by_class["star"] == pytest.approx((guesses[labels == 4] == 4).mean())


def test_without_test_batches_there_is_nothing_to_evaluate(made, tmp_path):
    with pytest.raises(ValueError, match="names of test batches must begin with test"):
        evaluate([made / "train", made / "prepare/batch-1.json"], tmp_path, threads=1)


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_best_is_chosen_by_validation_whatever_the_test_says(copy):
    for variant, valid, test in (("dropout", 0.6, 0.1), ("nodropout", 0.5, 0.9)):
        measures = {"valid_accuracy": valid, "test_accuracy": test}
        edit(copy / f"evaluate/{variant}/card.json", lambda card, m=measures: card["facts"]["metrics"].update(m))
    compare([copy / "evaluate"], copy / "compare")
    rows = list(csv.DictReader((copy / "compare/comparison.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == ["dropout", "nodropout"]
    assert [float(row["test_accuracy"]) for row in rows] == [0.1, 0.9]
    publish([copy / "compare", copy / "train"], copy / "publish", threshold=0.6)
    assert read_card(copy / "publish/card.json").facts["variant"] == "dropout"


def test_what_is_published_is_the_trained_model_in_a_run_folder(made):
    card = read_card(made / "publish/card.json")
    variant = card.facts["variant"]
    for name in ("model.safetensors", "config.json"):
        assert (made / "publish" / name).read_bytes() == (made / f"train/{variant}" / name).read_bytes()
    model, config = cnn.restore(made / "publish")
    assert config.dropout == (variant == "dropout")
    pixels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    other = cnn.restore(made / f"train/{variant}")[0]
    torch.testing.assert_close(cnn.predict(model, pixels), cnn.predict(other, pixels), rtol=0, atol=0)
    summary = json.loads((made / "publish/summary.json").read_text())
    assert summary.keys() == {"chapter", "program", "config", "data", "metrics", "seconds", "device", "versions"}
    evaluation = json.loads((made / f"evaluate/{variant}/metrics.json").read_text())
    assert summary["metrics"]["test_accuracy"] == evaluation["accuracy"]


def test_a_model_below_the_threshold_is_refused_and_the_earlier_one_stays(copy):
    before = {path.name: path.read_bytes() for path in (copy / "publish").iterdir()}
    with pytest.raises(
        ValueError, match=r"refused: the best model, \w+, has a validation accuracy of .* --threshold 1"
    ):
        publish([copy / "compare", copy / "train"], copy / "publish", threshold=1)
    assert {path.name: path.read_bytes() for path in (copy / "publish").iterdir()} == before


def test_a_model_that_was_trained_anew_must_be_compared_anew(copy, monkeypatch):
    monkeypatch.setattr(cnn, "report", lambda *_: None)
    for variant in ("dropout", "nodropout"):
        train([copy / "prepare"], copy / "train", **flags(seed=5, variant=variant))
    with pytest.raises(ValueError, match=r"is not among the inputs: compare again"):
        publish([copy / "compare", copy / "train"], copy / "publish", threshold=0)


# Predict.


def test_new_pictures_and_batches_are_classified_and_broken_ones_named(made, tmp_path):
    new, out = tmp_path / "new", tmp_path / "out"
    new.mkdir()
    drawn = draw_shapes(3, torch.Generator().manual_seed(9))
    Image.fromarray(drawn.pixels[0].permute(1, 2, 0).numpy()).save(new / "one.png")
    (new / "three.bin").write_bytes(encode_cifar(drawn))
    (new / "broken.jpg").write_bytes(b"no picture")
    (new / ".hidden").write_bytes(b"nobody's")
    said = predict([made / "publish", new], out, threads=1)
    assert "quarantined broken.jpg: broken.jpg cannot be read: it is not an image" in said
    rows = {path.name: list(csv.reader(path.read_text().splitlines())) for path in out.glob("*.csv")}
    assert {name: len(lines) - 1 for name, lines in rows.items()} == {
        "one.png.csv": 1,
        "three.bin.csv": 3,
        "broken.jpg.csv": 0,
    }
    model, _ = cnn.restore(made / "publish")
    shares = cnn.predict(model, drawn.pixels).softmax(1)
    sure, guess = shares.max(1)
    expected = [["three.bin", str(n), NAMES[guess[n]], f"{sure[n]:.4f}"] for n in range(3)]
    assert rows["three.bin.csv"][1:] == expected
    assert rows["one.png.csv"][1][2:] == expected[0][2:]
    assert read_card(out / "one.png.json").inputs["one.png"] == checksum(new / "one.png")


def test_json_among_the_new_pictures_goes_into_quarantine_whatever_it_holds(made, tmp_path):
    """It may be cut short, nested too deep, look like a card, or be a copy of the model's own without its files."""
    new, out = tmp_path / "new", tmp_path / "out"
    new.mkdir()
    card = json.loads((made / "publish/card.json").read_text())
    contents = {"cut": "{", "deep": "[" * 100_000, "list": "[1]", "copy": json.dumps(card), "binary": b"\xff\xfe"}
    contents["other"] = json.dumps(card | {"stage": "compare", "outputs": {"one.png": "0"}})
    for name, content in contents.items():
        (new / f"{name}.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(new / "one.png")
    said = {}
    for order in ([made / "publish", new], [new, made / "publish"]):
        said[order[0]] = sorted(predict(order, out, threads=1).splitlines())
        assert len(said[order[0]]) == 1 + len(contents)
        assert read_card(out / "one.png.json").facts["quarantined"] is None
        for name in contents:
            reason = read_card(out / f"{name}.json.json").facts["quarantined"]
            assert reason == f"{name}.json cannot be read: it is not an image"
    assert said[new] == said[made / "publish"]


def test_predicting_needs_a_published_model_that_is_whole(copy, tmp_path):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match=r"^no card of the stage publish in .*train, .*one.png$"):
        predict([copy / "train", tmp_path / "one.png"], tmp_path / "out", threads=1)
    (copy / "publish/summary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^no card of the stage publish in .*summary.json does not match its card"):
        predict([copy / "publish", tmp_path / "one.png"], tmp_path / "out", threads=1)
    (copy / "publish/card.json").write_text("{")
    with pytest.raises(ValueError, match=r"^no card of the stage publish in .*card.json is not valid JSON"):
        predict([copy / "publish", tmp_path / "one.png"], tmp_path / "out", threads=1)
    with pytest.raises(ValueError, match="no new image among the inputs"):
        predict([made_again(copy) / "publish"], tmp_path / "out", threads=1)


def made_again(home: Path) -> Path:
    publish([home / "compare", home / "train"], home / "publish", threshold=0)
    return home


def test_results_have_names_that_every_engine_takes_as_they_are(made, tmp_path):
    (tmp_path / "x{y}<z>%.bin").write_bytes(draw(5))
    prepare([tmp_path / "x{y}<z>%.bin"], tmp_path / "out")
    card = read_card(tmp_path / "out/x%7By%7D%3Cz%3E%25.json")
    assert card.inputs.keys() == {"x{y}<z>%.bin"}
    assert card.datum == "x{y}<z>%"
    predict([made / "publish", tmp_path / "x{y}<z>%.bin"], tmp_path / "out", threads=1)
    assert (tmp_path / "out/x%7By%7D%3Cz%3E%25.bin.csv").read_text().splitlines()[1].startswith("x{y}<z>%.bin,0,")


def test_a_large_grey_picture_is_brought_to_the_size_of_the_network(tmp_path):
    Image.fromarray(np.tile(np.arange(100, dtype=np.uint8), (60, 1))).save(tmp_path / "grey.png")
    pixels = read_pictures(tmp_path / "grey.png")
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert pixels[0, 0].eq(pixels[0, 2]).all()
    assert 20 <= pixels.min() < 25, "the square is not from the middle: 20 ... 79"


def test_a_picture_that_breaks_in_the_middle_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    path = tmp_path / "x.png"
    Image.fromarray(noise).save(path)
    head, kind, tail = path.read_bytes().rpartition(b"IDAT")
    assert b"IDAT" in head
    path.write_bytes(head + bytes(len(kind)) + tail)
    with pytest.raises(ValueError, match=r"^x\.png cannot be read"):
        read_pictures(path)


# The command line and the source.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x"], "the following arguments are required: --in"),
        (["--in", "nowhere", "--out", "x"], "--in nowhere: no such file or folder"),
        (["--in", "README.md", "--out", "x", "--threshold", "much"], "invalid float value: 'much'"),
        (["--in", "README.md", "--out", "x"], "no card of the stage compare in README.md"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(words, message):
    done = subprocess.run(
        [sys.executable, "-m", "ch09_pipeline.stages.publish", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_preparing_needs_no_torch():
    script = "import sys, ch09_pipeline.stages.prepare; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_source_files_are_what_is_imported():
    script = """
import sys, ch09_pipeline.stages.publish as module
own = [module for name, module in sys.modules.items() if name.split(".")[0] in ("common", "ch09_pipeline")]
print(*{module.__file__ for module in own}, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    expected = {Path(line).relative_to(ROOT) for line in done.stdout.split()}
    assert set(sources.source_files("ch09_pipeline.stages.publish")) == expected
    assert Path("ch06_cnn/convolution/cnn.py") in sources.source_files("ch09_pipeline.stages.train")


def test_any_byte_of_the_source_counts(tmp_path, monkeypatch):
    package = tmp_path / "ch99_x"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "a": "import numpy\nfrom ch99_x import b\n",
        "b": "x = 1\n",
        "c": "y = 1\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    assert [path.stem for path in sources.source_files("ch99_x.a")] == ["__init__", "a", "b"]
    before = sources.code_checksum("ch99_x.a")
    (package / "c.py").write_text("y = 2\n")
    assert sources.code_checksum("ch99_x.a") == before
    (package / "b.py").write_text("x = 2\n")
    assert sources.code_checksum("ch99_x.a") != before
