"""Batch inference: every image in exactly one share, whatever the folder holds; what is broken is named."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ch10_deploy import batch
from ch10_deploy.batch import Options, Source, share
from ch10_deploy.inference.cards import checksum
from common.data.images.binary import CIFAR_RECORD

CLASSES = list("0123456789")


def write_model(folder: Path, name: str) -> None:
    """Write a network that names an image's brightness, from 0 for black to 9 for white, with its card."""
    level = np.arange(10, dtype=np.float32)
    shape = ["batch", *batch.SHAPES[name]]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("MatMul", ["column", "slope"], ["product"]),
        helper.make_node("Sub", ["product", "offset"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    constants = {  # -(c - k)^2 is largest for the level k nearest to c = 9 mean / 255
        "axes": np.arange(1, len(shape)),
        "last": np.array([1]),
        "slope": (2 * level * 9 / 255)[np.newaxis],
        "offset": level**2,
    }
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    values = {"type": "uint8", "shape": shape}, {"type": "float", "shape": ["batch", 10]}
    card = {
        "name": name,
        "chapter": "ch00",
        "program": "brightness",
        "run": "none",
        "data": {"name": "invented", "embedded": True, "sha256": None},
        "metrics": {},
        "inputs": {"pixels": values[0]},
        "outputs": {"probabilities": values[1]},
        "weights_sha256": "0",
        "parity": {"tolerance": 0.0, "onnx": 0.0, "program": 0.0, "examples": 0},
        "versions": {},
        "exported": "2026-01-01T00:00:00Z",
        "serving": {"classes": CLASSES},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(data)
    (folder / f"{name}.json").write_text(json.dumps({**card, "sha256": checksum(card, data)}))


def grey(*levels: int) -> np.ndarray:
    """(N, 28, 28) uint8 images, each of one brightness"""
    return np.repeat(np.array([round(level * 255 / 9) for level in levels], np.uint8), 28 * 28).reshape(-1, 28, 28)


def cifar_records(*levels: int) -> bytes:
    """CIFAR-10's records of images of one brightness each, with labels that say something else."""
    return b"".join(
        bytes([(level + 1) % 10]) + bytes([round(level * 255 / 9)]) * (CIFAR_RECORD - 1) for level in levels
    )


def idx(images: np.ndarray) -> bytes:
    return b"\x00\x00\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape) + images.tobytes()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def digits_folder(tmp_path):
    """Thirteen grey images in three files of three kinds, among them things that are no images; and the models."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    (folder / "b-images-idx3-ubyte").write_bytes(idx(grey(0, 1, 2, 3, 4)))
    (folder / "more" / "c-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(grey(9, 8, 7, 6, 5, 4, 3))))
    Image.fromarray(grey(6)[0]).save(folder / "a.PNG")
    (folder / "b-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x01\x07")
    (folder / "notes.txt").write_text("no image")
    write_model(tmp_path / "models", "digits")
    return folder


LABELS = [
    ("a.PNG", "0", "6"),
    *(("b-images-idx3-ubyte", str(i), str(i)) for i in range(5)),
    *(("more/c-images-idx3-ubyte.gz", str(i), str(9 - i)) for i in range(7)),
]


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 13, 20])
@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_shares_together_hold_every_image_once_and_rightly_named(digits_folder, tmp_path, shards, batch_size):
    found = []
    for shard in range(shards):
        options = Options(
            images=digits_folder,
            model="digits",
            models=tmp_path / "models",
            out=tmp_path / "out",
            shards=shards,
            shard=shard,
            batch_size=batch_size,
        )
        found.append(rows(batch.classify(options)))
    assert [(row["file"], row["image"], row["label"]) for part in found for row in part] == LABELS
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert all(0.5 < float(row["probability"]) <= 1 for part in found for row in part)
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert names == [f"{shard:05d}-of-{shards:05d}.csv" for shard in range(shards)]


def test_an_unpacked_file_beside_its_packed_one_is_taken_once(digits_folder):
    before = batch.find_sources(digits_folder)
    (digits_folder / "b-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(grey(0, 1, 2, 3, 4))))
    assert batch.find_sources(digits_folder) == before
    (digits_folder / "b-images-idx3-ubyte").unlink()
    assert [source.path.name for source in batch.find_sources(digits_folder)][1] == "b-images-idx3-ubyte.gz"


def test_cifar_files_are_read_in_the_order_of_their_planes(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "test_batch.bin").write_bytes(cifar_records(4, 9))
    image = np.zeros((32, 32, 3), np.uint8)
    image[1, 2] = 10, 20, 30
    Image.fromarray(image).save(folder / "x.png")
    planes = image.transpose(2, 0, 1).tobytes()
    (folder / "y.bin").write_bytes(b"\x03" + planes)
    assert np.array_equal(batch.read_images(folder / "y.bin"), batch.read_images(folder / "x.png"))
    write_model(tmp_path / "models", "pictures")
    path = batch.classify(Options(images=folder, models=tmp_path / "models", out=tmp_path / "out"))
    assert [row["label"] for row in rows(path)] == ["4", "9", "0", "0"]


@given(counts=st.lists(st.integers(1, 7), min_size=1, max_size=6), shards=st.integers(1, 12))
def test_shares_are_disjoint_complete_in_order_and_even(counts, shards):
    sources = [Source(Path(f"{number}.bin"), count) for number, count in enumerate(counts)]
    whole = [(path, index) for path, count in sources for index in range(count)]
    shares = [share(sources, shard, shards) for shard in range(shards)]
    taken = [[(path, index) for path, first, last in part for index in range(first, last)] for part in shares]
    assert [item for part in taken for item in part] == whole
    assert max(map(len, taken)) - min(map(len, taken)) <= 1


def test_the_clusters_number_picks_the_share_and_a_flag_overrules_it(digits_folder, tmp_path, monkeypatch, fails):
    common = ["--images", str(digits_folder), "--model", "digits", "--models", str(tmp_path / "models")]
    words = [*common, "--out", str(tmp_path / "out"), "--shards", "4"]
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    batch.main(words)
    batch.main([*words, "--shard", "1"])
    assert sorted(path.name[:5] for path in (tmp_path / "out").iterdir()) == ["00001", "00002"]
    for index in ("4", "-1", "two", ""):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
        assert "JOB_COMPLETION_INDEX must be between 0 and 3" in fails(batch.main, words)
    assert "--shard must be between 0 and 3" in fails(batch.main, [*words, "--shard", "4"])
    assert "--shards must be a number above 0" in fails(batch.main, [*common, "--shards", "0"])


def test_what_is_broken_is_named_and_nothing_half_written(digits_folder, tmp_path, fails):
    words = ["--images", str(digits_folder), "--model", "digits", "--models", str(tmp_path / "models")]
    out = tmp_path / "out"

    def mistake(name: str, data: bytes) -> str:
        (digits_folder / name).write_bytes(data)
        error = fails(batch.main, [*words, "--out", str(out)])
        (digits_folder / name).unlink()
        assert not list(out.glob("*")), "half a table"
        assert name in error
        return error

    assert "has the wrong size" in mistake("z-idx3-ubyte", idx(grey(1, 2))[:-1])
    assert "not a readable PNG" in mistake("z.png", b"\x89PNG\r\n\x1a\n")
    assert "records of 3,073 bytes" in mistake("z.bin", cifar_records(1)[:-1])
    assert "must hold images of 28x28, got (32, 32, 3)" in mistake("z.bin", cifar_records(1))
    assert "has label 200" in mistake("z.bin", bytes([200]) + cifar_records(1)[1:])
    (tmp_path / "empty").mkdir()
    assert "there are no images in" in fails(batch.main, ["--images", str(tmp_path / "empty"), *words[2:]])
    assert "there are no images in" in fails(batch.main, ["--images", str(tmp_path / "absent"), *words[2:]])
    assert "has no model 'pictures'" in fails(batch.main, [*words[:2], "--models", str(tmp_path / "models")])
    (tmp_path / "file").write_text("no folder")
    assert "choose another folder with --out" in fails(batch.main, [*words, "--out", str(tmp_path / "file")])


WITHOUT_TORCH = """
import sys
class Hidden:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name == "torch" else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Hidden, sys.meta_path)
"""


def test_it_needs_no_torch(digits_folder, tmp_path, command):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    done = command(
        "ch10_deploy.batch",
        *("--images", str(digits_folder), "--model", "digits", "--models", str(tmp_path / "models")),
        *("--out", str(tmp_path / "out")),
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "13 of the 13" in done.stdout
    assert "shard 0 of 1" in done.stdout
