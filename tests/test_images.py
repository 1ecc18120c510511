"""Image files: written data are read back, and errors name the broken file."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from common.data import archives, source
from common.data.images import loading as images
from common.data.images import shapes
from common.data.images.cifar import decode_cifar, encode_cifar
from common.data.images.image_set import Split
from common.data.images.loading import load_images, read_idx


def idx(array: np.ndarray) -> bytes:
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, *, compressed: bool = False, train: int = 60, test: int = 20) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            data = idx(generator.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8))
            name = f"{prefix}-{kind}-ubyte" + ".gz" * compressed
            (folder / name).write_bytes(gzip.compress(data) if compressed else data)


def write_cifar(folder: Path, count: int = 20) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for name in (*images.CIFAR_TRAIN, images.CIFAR_TEST):
        (folder / name).write_bytes(encode_cifar(shapes.draw_shapes(count, generator)))


@given(
    array=arrays(np.uint8, st.one_of(st.tuples(st.integers(1, 5)), array_shapes(min_dims=3, max_dims=3, max_side=5)))
)
def test_idx_round_trip(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / "file"
    for data in (idx(array), gzip.compress(idx(array))):
        path.write_bytes(data)
        assert np.array_equal(read_idx(path).numpy(), array)


@given(cut=st.integers(0, 4 + 12 + 2 * 9 - 1), compressed=st.booleans())
def test_truncated_idx_is_rejected(cut, compressed, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / "file"
    whole = idx(np.zeros((2, 3, 3), np.uint8))
    data = gzip.compress(whole) if compressed else whole
    assume(cut < len(data))
    path.write_bytes(data[:cut])
    with pytest.raises(ValueError, match=str(path)):
        read_idx(path)


@given(noise=st.binary(max_size=64))
def test_idx_of_noise_is_a_tensor_or_one_clear_error(noise, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / "file"
    for data in (noise, b"\x1f\x8b" + noise, b"\x00\x00\x08\x03" + noise):
        path.write_bytes(data)
        try:
            assert read_idx(path).dtype == torch.uint8
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (b"\x00\x00\x0d\x03" + b"\0" * 12, "starts with 00000d03"),
        (idx(np.zeros((2, 3, 3), np.uint8)) + b"!", "2x3x3 needs 18 bytes, it has 19"),
        (b"\x00\x00\x08\x03\x00", "its header has 16 bytes, the file 5"),
        (gzip.compress(idx(np.zeros(9, np.uint8)), mtime=0)[:-9], "broken gzip file"),
    ],
)
def test_idx_errors_state_the_cause(tmp_path, data, message):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "file")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_family_from_disk(name, compressed):
    write_mnist(source.data_dir() / images.FOLDER[name], compressed=compressed)
    data = load_images(name)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [54, 6, 20]
    assert data.train.pixels.shape == (54, 1, 28, 28)
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert data.card.name == f"{name} (partial: 60 of 60,000 train images)"
    assert data.class_names[9] == {"mnist": "9", "fashion-mnist": "ankle boot"}[name]
    assert not data.card.embedded


def test_only_missing_files_are_downloaded_with_torchvisions_names_and_checksums(monkeypatch):
    folder = source.data_dir() / images.FOLDER["mnist"]
    write_mnist(folder)
    lost = folder / "t10k-labels-idx1-ubyte"
    content = lost.read_bytes()
    lost.unlink()
    calls = []

    def fetch(mirrors, path, md5):
        calls.append((path, md5))
        assert all(url.endswith("/t10k-labels-idx1-ubyte.gz") for url in mirrors)
        path.write_bytes(gzip.compress(content))

    monkeypatch.setattr(images, "fetch", fetch)
    assert len(load_images("mnist").test) == 20
    assert calls == [(folder / "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c")]


def test_splits_partition_the_set_and_are_repeatable():
    folder = source.data_dir() / images.FOLDER["mnist"]
    write_mnist(folder)
    data, again = load_images("mnist"), load_images("mnist")
    whole = read_idx(folder / "train-images-idx3-ubyte").flatten(1)
    parts = torch.cat([data.train.pixels, data.valid.pixels]).flatten(1)
    assert sorted(map(tuple, parts.tolist())) == sorted(map(tuple, whole.tolist()))
    assert not torch.equal(parts, whole), "the validation images must not be the last ones"
    assert torch.equal(data.valid.pixels, again.valid.pixels)
    assert data.card.sha256 == again.card.sha256


def test_limit_shortens_the_splits_but_keeps_the_data_set():
    whole, part = load_images("digits"), load_images("digits", limit=50)
    assert [len(split) for split in (part.train, part.valid, part.test)] == [50, 50, 50]
    assert torch.equal(part.train.pixels, whole.train.pixels[:50])
    assert part.card.sha256 == whole.card.sha256


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte", lambda d: d[:-1], "has the wrong size"),
        ("t10k-labels-idx1-ubyte", lambda d: d[:-1] + b"\x0a", "has label 10 at image 19: the classes are 0 to 9"),
        (
            "train-labels-idx1-ubyte",
            lambda d: idx(np.zeros(59, np.uint8)),
            "but train-images-idx3-ubyte has 60 images",
        ),
        ("train-images-idx3-ubyte", lambda d: idx(np.zeros((60, 28, 27), np.uint8)), r"\(28, 27\), not 28x28"),
        ("train-labels-idx1-ubyte", lambda d: b"<html>", "is not an IDX file"),
    ],
)
def test_damaged_mnist_names_file_and_damage_and_never_falls_back(name, damage, message):
    folder = source.data_dir() / images.FOLDER["mnist"]
    write_mnist(folder)
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    for choice in ("mnist", "auto"):
        with pytest.raises(ValueError, match=message) as error:
            load_images(choice)
        assert str(folder / name) in str(error.value)


def test_empty_mnist_is_rejected():
    write_mnist(source.data_dir() / images.FOLDER["mnist"], train=0)
    with pytest.raises(ValueError, match="is empty: its shape is 0x28x28"):
        load_images("mnist")


def test_a_set_too_small_to_split_is_rejected():
    write_mnist(source.data_dir() / images.FOLDER["mnist"], train=9)
    with pytest.raises(ValueError, match="has only 9 training images"):
        load_images("mnist")


def test_a_header_that_overflows_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_bytes(b"\x00\x00\x08\x03" + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1))
    with pytest.raises(ValueError, match="is empty: its shape"):
        read_idx(tmp_path / "file")


@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_cifar_round_trip(labels, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
    data = encode_cifar(Split(pixels, torch.tensor(labels)))
    assert len(data) == len(labels) * 3073
    assert data[:2] == bytes([labels[0], int(pixels[0, 0, 0, 0])])
    assert data[1 + 1024 + 33] == pixels[0, 1, 1, 1], "planes follow each other, red, green, blue"
    back = decode_cifar(data, "memory")
    assert torch.equal(back.pixels, pixels)
    assert back.labels.tolist() == labels


def test_cifar_from_disk():
    write_cifar(source.data_dir() / images.FOLDER["cifar-10"])
    data = load_images("cifar-10")
    assert [len(split) for split in (data.train, data.valid, data.test)] == [90, 10, 20]
    assert data.class_names[3] == "cat"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are not a whole number of records of 3,073"),
        (bytes(3072), "3,072 bytes"),
        (bytes(3073) + b"\x0a" + bytes(3072), "label 10 at image 1"),
        (b"PK\x03\x04 a zip file", "not a whole number of records"),
    ],
)
def test_damaged_cifar_names_file_and_damage(data, message):
    folder = source.data_dir() / images.FOLDER["cifar-10"]
    write_cifar(folder)
    (folder / "data_batch_2.bin").write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        load_images("auto", preferred="cifar-10")
    assert str(folder / "data_batch_2.bin") in str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_missing_mnist_file_is_named(compressed):
    folder = source.data_dir() / images.FOLDER["mnist"]
    write_mnist(folder, compressed=compressed)
    (folder / ("t10k-labels-idx1-ubyte" + ".gz" * compressed)).unlink()
    for choice in ("mnist", "auto"):
        with pytest.raises(ValueError, match=r"lacks t10k-labels-idx1-ubyte"):
            load_images(choice)


def test_missing_cifar_batch_is_named():
    folder = source.data_dir() / images.FOLDER["cifar-10"]
    write_cifar(folder)
    (folder / "data_batch_4.bin").unlink()
    for choice in ("cifar-10", "auto"):
        with pytest.raises(ValueError, match=r"lacks data_batch_4\.bin"):
            load_images(choice, preferred="cifar-10")


def test_a_missing_cifar_batch_is_extracted_from_the_archive(tmp_path):
    folder = source.data_dir() / images.FOLDER["cifar-10"]
    write_cifar(folder)
    whole = load_images("cifar-10").card.sha256
    with tarfile.open(source.data_dir() / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-bin")
    (folder / "data_batch_4.bin").unlink()
    assert load_images("cifar-10").card.sha256 == whole


def test_unpacking_extracts_only_the_named_files(tmp_path):
    archive = tmp_path / "a.tar.gz"
    names = [*images.CIFAR_TRAIN, images.CIFAR_TEST]
    with tarfile.open(archive, "w:gz") as tar:
        for name in [f"../../outside/{names[0]}", *names[1:], "../evil.sh"]:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(ValueError, match=r"does not contain y/data_batch_1\.bin"):
        archives.unpack(archive, tmp_path / "x" / "y", names)
    archives.unpack(archive, tmp_path / "x" / "y", names[1:])
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted(["a.tar.gz", *(f"x/y/{name}" for name in names[1:])])


def test_digits_are_centred_like_mnist(digits):
    pixels = digits.train.pixels
    assert pixels.shape == (1257, 1, 28, 28)
    assert pixels[..., :4, :].max() == pixels[..., -4:].max() == 0
    assert pixels.max() == 255
    assert sorted(set(digits.test.labels.tolist())) == list(range(10))
    assert digits.card.embedded


def test_shapes_are_balanced_repeatable_and_of_every_colour():
    first, second = (shapes.draw_shapes(200, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first.pixels, second.pixels)
    assert first.labels.bincount().tolist() == [20] * 10
    assert first.pixels.shape == (200, 3, 32, 32)
    corners = first.pixels[:, :, 0, 0].float()
    assert corners.min() < 30
    assert corners.max() > 225


def test_no_shape_touches_the_edge_or_vanishes():
    for number, shape in enumerate(shapes.SHAPES.values()):
        axis = torch.linspace(-1.6, 1.6, 321)
        inside = shape(axis[None, :].expand(321, 321), axis[:, None].expand(321, 321)) < 0
        radius = torch.hypot(axis[None, :], axis[:, None])
        assert radius[inside].max() < 1.25, shapes.NAMES[number]
        assert 0.15 < float(inside.float().mean()) * 3.2**2 < 3.2, shapes.NAMES[number]


def test_auto_loads_the_embedded_set_and_reports_it():
    card = load_images("auto").card
    assert card.name == "digits"
    assert card.embedded
    assert f"mnist is not in {source.data_dir()} and cannot be downloaded" in card.description


@pytest.mark.data
def test_real_sets_match_the_published_ones(real_data):
    mnist = load_images("mnist")
    assert [len(split) for split in (mnist.train, mnist.valid, mnist.test)] == [55_000, 5_000, 10_000]
    assert mnist.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    pixels = torch.cat([mnist.train.pixels, mnist.valid.pixels]).float() / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=1e-4)
    cifar = load_images("cifar-10")
    assert [len(split) for split in (cifar.train, cifar.valid, cifar.test)] == [45_000, 5_000, 10_000]
    assert cifar.test.labels[:4].tolist() == [3, 8, 8, 0]
