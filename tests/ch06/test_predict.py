"""The command predict, and training on a folder of pictures in every program."""

import csv
import json
from typing import Any

import pytest
import torch
from PIL import Image

from ch06_cnn import predict
from ch06_cnn.architectures import classics
from ch06_cnn.convolution import cnn
from ch06_cnn.predict import find_pictures, identifiers, load_classifier, natural
from ch06_cnn.speedrun import speedrun
from ch06_cnn.transfer import transfer
from test_image_folders import fill

NAMES = ("bee", "cow", "eel", "fox")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("animals"), 30, NAMES)


@pytest.fixture
def programs(pictures, options):
    """Short settings of each program for a folder."""
    data = str(pictures)
    epochs: dict[str, Any] = {"epochs": 1, "batch_size": 32}
    few: dict[str, Any] = {
        "all_epochs": 1,
        "scratch_epochs": 1,
        "pretraining_epochs": 1,
        "labels": (5,),
        "methods": ("frozen",),
    }
    return {
        cnn: cnn.Config(data=data, network="linear", run=options, **epochs),
        classics: classics.Config(data=data, network="lenet", run=options, **epochs),
        speedrun: speedrun.Config(data=data, widths=(4, 4, 4), run=options, **epochs),
        transfer: transfer.Config(data=data, weights="half", run=options, **epochs, **few),
    }


@pytest.fixture
def trained(programs, monkeypatch):
    """A run folder of the linear network."""
    monkeypatch.setattr(cnn, "report", lambda *_: None)
    cnn.train(programs[cnn])
    return next(programs[cnn].run.out.rglob("model.safetensors")).parent


@pytest.mark.parametrize("program", [cnn, classics, speedrun, transfer])
def test_each_program_takes_the_classes_from_the_folder(programs, monkeypatch, program):
    monkeypatch.setattr(program, "report", lambda *_: None)
    monkeypatch.setattr(transfer, "LEAST_STEPS", 2)
    config = programs[program]
    program.train(config)
    folder = next(config.run.out.rglob("model.safetensors")).parent
    names = NAMES[2:] if program is transfer else NAMES
    classifier = load_classifier(folder)
    assert classifier.class_names == names
    logits = classifier.logits(torch.zeros(2, 3, classifier.size, classifier.size, dtype=torch.uint8))
    assert logits.shape == (2, len(names))
    model, restored = program.restore(folder)
    assert restored == config and not model.training


@pytest.mark.parametrize("network", ["book", "mlp"])
def test_networks_of_cnn_have_the_classes_of_the_data(network):
    assert cnn.make_model(cnn.Config(network=network), 3)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_predictions_are_written_as_a_table_and_a_sheet(trained, pictures, tmp_path, capsys):
    new = tmp_path / "new"
    for number in (1, 2, 10):
        (new / "more").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), (240, number, 0)).save(new / "more" / f"{number}.png")
    (new / "bad.jpg").write_bytes(b"?")
    out = str(trained.parents[2])
    predict.main([str(new), str(new / "more" / "2.png"), "--probabilities", "--out", out])
    output = capsys.readouterr().out
    assert "skipped " in output and f"{new / 'bad.jpg'}: it is not a picture" in output
    folder = trained / "predictions"
    rows = list(csv.reader((folder / "submission.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["id", "1", "2", "10"] and rows[0][1] == "label"
    table = list(csv.DictReader((folder / "probabilities.csv").read_text().splitlines()))
    model, config = cnn.restore(trained)
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[:, 0], images[:, 1] = 240, 10
    p = cnn.predict(model, images, channels_last=config.channels_last).softmax(1)[0]
    assert [float(table[2][name]) for name in NAMES] == pytest.approx(p.tolist(), abs=1e-5)
    assert rows[3][1] == NAMES[int(p.argmax())]
    assert (folder / "predictions.png").read_bytes()[:4] == b"\x89PNG"


def test_a_sheet_shows_a_limited_number_of_pictures(trained, pictures, tmp_path, monkeypatch, capsys):
    from common.drawing import plots

    shown = []
    monkeypatch.setattr(predict, "SHOWN", 4)
    monkeypatch.setattr(plots, "image_grid", lambda images, **options: shown.append(options["titles"]) or Sheet())
    predict.main([str(pictures / "cow"), "--folder", str(trained), "--to", str(tmp_path / "here")])
    assert len(shown[0]) == 4 and all(title.endswith("%") for title in shown[0])
    assert (
        f"saved    {tmp_path / 'here'}: submission.csv predictions.png (the first 4 pictures)"
        in capsys.readouterr().out
    )
    assert len((tmp_path / "here" / "submission.csv").read_text().splitlines()) == 31
    assert not (tmp_path / "here" / "probabilities.csv").exists()


class Sheet:
    def savefig(self, path, **_):
        path.write_bytes(b"figure")

    def set_layout_engine(self, _):
        pass


def test_pictures_are_found_once_in_numerical_order(tmp_path):
    fill(tmp_path, 12, ("a",))
    names = [path.name for path in find_pictures([tmp_path / "a" / "3.png", tmp_path])]
    assert names == ["3.png", "0.png", "1.png", "2.png", *(f"{n}.png" for n in range(4, 12))]
    assert sorted(["b10", "b2", "a", "²"], key=natural) == ["a", "b2", "b10", "²"]
    a, b = tmp_path / "a" / "1.png", tmp_path / "b" / "1.jpg"
    assert identifiers([a, b, tmp_path / "2.png"]) == [a.as_posix(), b.as_posix(), "2"]


def test_mistakes_are_explained_in_one_line(trained, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"?")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"chapter": "ch08_vae", "program": "vae"}')
    good = str(trained.parents[2])
    for words, message in (
        ([], "name files or folders: python -m ch06_cnn.predict FILE|FOLDER ..."),
        (["missing.png"], "missing.png does not exist"),
        ([str(tmp_path / "empty")], "no pictures (.bmp"),
        ([str(tmp_path / "bad.png"), "--out", good], "none of 1 files can be read"),
        (
            [str(tmp_path / "bad.png"), "--folder", str(other)],
            "is a run of ch08_vae.vae, not of cnn, classics",
        ),
        ([str(tmp_path / "bad.png"), "--folder", str(tmp_path)], "is not a run folder: it has no config.json"),
        ([str(tmp_path / "bad.png"), "--out", str(tmp_path / "none")], "has no finished run: train one with python -m"),
    ):
        with pytest.raises(SystemExit) as stop:
            predict.main(words)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and message in error and error.count("\n") == 1, error


def test_runs_without_a_list_of_classes_have_those_of_their_data(options, monkeypatch):
    """Runs of earlier versions, and runs that the pipeline of chapter 9 has copied."""
    from ch06_cnn.class_names import FILE, load_class_names
    from common.data.images.loading import CLASS_NAMES, load_images

    monkeypatch.setattr(cnn, "report", lambda *_: None)
    config = cnn.Config(data="shapes", network="linear", epochs=1, run=options)
    data = load_images("shapes", limit=20)
    cnn.train(config, data)
    folder = next(options.out.rglob("model.safetensors")).parent
    (folder / FILE).unlink()
    assert load_class_names(folder) == data.class_names
    record = json.loads((folder / "config.json").read_text())
    for name, expected in (("cifar-10", CLASS_NAMES["cifar-10"]), ("prepared", tuple("0123456789"))):
        (folder / "config.json").write_text(json.dumps(record | {"data": record["data"] | {"name": name}}))
        assert load_class_names(folder) == expected
    assert cnn.restore(folder)[1] == config
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="does not exist: has this run finished"):
        cnn.restore(folder)
