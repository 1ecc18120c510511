"""Pictures for the pages: each belongs to a record, is small, and is shown on a page."""

import re

import numpy as np
import pytest
from PIL import Image

from common.files import read_json, write_json
from common.records import ledger, pictures, tables
from conftest import ROOT

SHOWN = sorted(pictures.folder().rglob("*.*"))


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_a_picture_belongs_to_a_record(path):
    origin = pictures.origin_of(path)
    record = read_json(tables.RESULTS / f"{origin['record']}.json")
    assert origin["command"] == record["command"]
    assert int(origin["seed"]) in record["seeds"]
    assert path.stat().st_size <= pictures.MOST_BYTES
    assert path.parent.name == origin["record"].split("/")[0]


def test_all_pictures_are_shown_and_small_together():
    pages = {path: path.read_text(encoding="utf-8") for path in tables.readmes()}
    linked = {
        (path.parent / target).resolve()
        for path, text in pages.items()
        for found in re.finditer(r'!\[[^\]]+\]\(([^)]+)\)|<img src="([^"]+)"[^>]* alt="[^"]+">', text)
        for target in found.groups()
        if target
    }
    assert {path.resolve() for path in SHOWN} <= linked, "a picture that no page shows"
    assert all(target.is_file() for target in linked if ROOT in target.parents)
    assert sum(path.stat().st_size for path in SHOWN) <= 8_000_000


@pytest.fixture
def house(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    (tmp_path / "results" / "ch03").mkdir(parents=True)
    write_json(tmp_path / "results" / "ch03" / "rbm.json", {"command": "python -m ch03_x.train rbm", "seeds": [0]})
    run = tmp_path / "runs" / "ledger" / "ch03" / "rbm" / "0" / "ch03_x" / "rbm" / "20261129-s0"
    run.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1_600, 1_600), Image.Resampling.NEAREST).save(run / "noise.png")
    Image.new("RGBA", (800, 400), (0, 0, 0, 0)).save(run / "filters.png")
    frames = [Image.new("L", (20, 20), level) for level in (0, 120, 255)]
    frames[0].save(run / "walk.gif", save_all=True, append_images=frames[1:], duration=100)
    return tmp_path


@pytest.mark.parametrize("name", ["filters", "walk.gif"])
def test_a_figure_is_copied_with_its_origin(house, monkeypatch, capsys, name):
    monkeypatch.setattr("sys.argv", ["ledger", "picture", "ch03/rbm", name])
    ledger.main()
    (path,) = (house / "docs" / "pictures" / "ch03").iterdir()
    assert path.name in capsys.readouterr().out
    expected = {"record": "ch03/rbm", "command": "python -m ch03_x.train rbm", "seed": "0"}
    assert pictures.origin_of(path) == expected
    with Image.open(path) as image:
        if name == "filters":
            assert image.convert("RGB").getpixel((5, 5)) == (255, 255, 255), "legible on a dark page as well"
        else:
            assert getattr(image, "n_frames", 1) == 3


def test_a_picture_that_stays_too_large_is_rejected(house):
    with pytest.raises(ValueError, match="more than 150,000"):
        pictures.add_picture("ch03/rbm", "noise")
    assert not list((house / "docs" / "pictures" / "ch03").iterdir())


@pytest.mark.parametrize(
    ("record", "figure", "message"),
    [
        ("ch03/none", "filters", "results/ch03/none.json does not exist"),
        ("ch03/rbm", "curves", "has no curves.png; available: filters.png, noise.png, walk.gif"),
    ],
)
def test_a_missing_record_or_figure_is_named(house, record, figure, message):
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        pictures.add_picture(record, figure)
