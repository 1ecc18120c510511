"""Folders of pictures: every mode and format, orientation, damaged and huge files, splits, and one-line errors."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from common.data.images import folder as folders
from common.data.images.folder import load_folder, load_pictures, part_of, split_folder
from common.data.images.picture import LIMIT, read_picture


def solid(path: Path, mode: str = "RGB", colour: Any = "red", size=(40, 30), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def fill(folder: Path, count: int = 30, names=("cat", "dog")) -> Path:
    for number, name in enumerate(names):
        for index in range(count):
            solid(folder / name / f"{index}.png", colour=(80 * number, index, 0))
    return folder


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and has one byte of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def colour(pixels: Tensor) -> tuple[int, ...]:
    """The colour of a picture of one colour, and a check that it is one."""
    assert pixels.dtype == torch.uint8 and pixels.flatten(1).unique(dim=1).shape[1] == 1
    return tuple(pixels[:, 0, 0].tolist())


MODES = {
    "rgb.png": ("RGB", (10, 200, 30), (10, 200, 30)),
    "grey.png": ("L", 77, (77, 77, 77)),
    "grey-alpha.png": ("LA", (0, 0), (255, 255, 255)),  # black, but transparent
    "rgba.png": ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
    "transparent.webp": ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
    "half.png": ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
    "bits.png": ("1", 1, (255, 255, 255)),
    "sixteen.png": ("I;16", 257 * 100, (100, 100, 100)),
    "sixteen.tiff": ("I;16", 65_535, (255, 255, 255)),
    "cmyk.tif": ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
    "bitmap.bmp": ("RGB", (1, 2, 3), (1, 2, 3)),
    "upper.PPM": ("RGB", (9, 8, 7), (9, 8, 7)),
}


@pytest.mark.parametrize("name", list(MODES))
def test_every_mode_becomes_rgb(tmp_path, name):
    mode, value, expected = MODES[name]
    options = {"lossless": True} if name.endswith("webp") else {}
    pixels = read_picture(solid(tmp_path / name, mode, value, **options), 8)
    assert pixels.shape == (3, 8, 8)
    assert colour(pixels) == expected


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.gif")
    image.save(tmp_path / "b.png", transparency=1)
    assert colour(read_picture(tmp_path / "a.gif", 4)) == (10, 20, 30)
    assert colour(read_picture(tmp_path / "b.png", 4)) == (255, 255, 255)


def test_cmyk_jpeg_and_the_first_frame_of_an_animation(tmp_path):
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    torch.testing.assert_close(
        read_picture(tmp_path / "red.jpg", 8)[:, 0, 0].int(), torch.tensor([254, 0, 0]).int(), atol=3, rtol=0
    )
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert colour(read_picture(tmp_path / "two.gif", 8)) == (255, 0, 0)


def test_sixteen_bits_in_a_pgm(tmp_path):
    """Pillow opens this file in the mode I (32 bits); its own conversion to 8 bits would give 255."""
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 2 65535\n" + struct.pack(">4H", *[257 * 50] * 4))
    assert colour(read_picture(tmp_path / "deep.pgm", 4)) == (50, 50, 50)


def test_the_central_square_is_read_upright(tmp_path):
    """A picture of 3x1 squares, red, green and blue, stored turned by a quarter with the EXIF orientation 6."""
    upright = Image.new("RGB", (48, 16))
    for number, name in enumerate(("red", "green", "blue")):
        upright.paste(name, (16 * number, 0, 16 * number + 16, 16))
    upright.save(tmp_path / "plain.png")
    assert colour(read_picture(tmp_path / "plain.png", 16)) == (0, 128, 0)
    corner = Image.new("RGB", (16, 16), "black")
    corner.paste("white", (0, 0, 8, 8))  # top left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show it
    corner.rotate(90).save(tmp_path / "turned.png", exif=exif)
    pixels = read_picture(tmp_path / "turned.png", 16)
    assert pixels[:, 2, 2].tolist() == [255] * 3 and pixels[:, 2, 13].tolist() == [0] * 3


def test_a_large_jpeg_is_reduced_as_a_whole(tmp_path):
    """The decoder's reduction by up to eight changes no position: halves stay halves."""
    image = Image.new("RGB", (800, 800), "black")
    image.paste("white", (400, 0, 800, 800))
    image.save(tmp_path / "large.jpg", quality=95)
    pixels = read_picture(tmp_path / "large.jpg", 32).float().mean((0, 1))
    assert pixels[:15].max() < 10 and pixels[17:].min() > 245


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (10_001, 10_000)])
def test_a_huge_picture_is_rejected_by_its_header(tmp_path, width, height):
    assert width * height > LIMIT
    with pytest.raises(ValueError, match="it has more than 100 million pixels"):
        read_picture(png_header(tmp_path / "huge.png", width, height), 32)


def test_damaged_files_give_a_reason(tmp_path):
    whole = solid(tmp_path / "whole.png", size=(200, 200)).read_bytes()
    for name, content, reason in (
        ("cut.png", whole[: len(whole) // 2], "."),
        ("text.jpg", b"hello", "it is not a picture"),
        ("empty.gif", b"", "it is not a picture"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            read_picture(tmp_path / name, 8)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "floats.tiff")
    with pytest.raises(ValueError, match="floating point are not supported"):
        read_picture(tmp_path / "floats.tiff", 8)


def test_a_folder_is_split_by_file_name(tmp_path):
    data = load_folder(fill(tmp_path / "pets", 40), size=8)
    assert data.class_names == ("cat", "dog")
    assert data.card.name == "pets" and not data.card.embedded
    assert f"2 classes, from {tmp_path / 'pets'}" in data.card.description
    parts = (data.train, data.valid, data.test)
    assert sum(map(len, parts)) == 80 and len(data.train) > 50 and len(data.valid) > 2 and len(data.test) > 2
    for part in parts:  # the red channel holds the class, the green channel the number of the file
        assert torch.equal(part.pixels[:, 0, 0, 0], 80 * part.labels.to(torch.uint8))
    places = [(int(red), int(green)) for part in parts for red, green, _ in part.pixels[:, :, 0, 0]]
    assert len(set(places)) == 80, "a picture is missing or in two splits"
    assert 10 < int(data.train.labels[:32].sum()) < 22, "the classes are not mixed"
    assert load_folder(tmp_path / "pets", size=8).card.sha256 == data.card.sha256


def test_more_pictures_do_not_move_the_others(tmp_path):
    before = split_folder(fill(tmp_path, 30))
    after = split_folder(fill(tmp_path, 60, ("cat", "dog", "bird")))
    for part, paths in before.items():
        assert set(paths) <= set(after[part])
        assert [path for path in after[part] if path in set(paths)] == paths, "the order has changed"


def test_the_split_is_the_same_on_every_machine(tmp_path):
    """sha256 of the relative path modulo 10: 0 test, 1 valid; an accented letter may be stored in two forms."""
    expected = [*["train"] * 2, "test", *["train"] * 2, "valid", "train", "valid", *["train"] * 4]
    assert [part_of(tmp_path, tmp_path / "cat" / f"{n}.png") for n in range(12)] == expected
    composed, decomposed = "cat/\u00fc.png", "cat/u\u0308.png"
    assert folders.digest(tmp_path, tmp_path / composed) == folders.digest(tmp_path, tmp_path / decomposed)


@pytest.mark.parametrize("valid", ["valid", "val", "validation", None])
def test_given_splits_are_used(tmp_path, valid):
    fill(tmp_path / "train", 40)
    fill(tmp_path / "test", 3)
    if valid:
        fill(tmp_path / valid, 2)
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    parts = split_folder(tmp_path)
    assert all(path.relative_to(tmp_path).parts[0] == "test" for path in parts["test"]) and len(parts["test"]) == 6
    if valid:
        assert len(parts["train"]) == 80 and len(parts["valid"]) == 4
        return
    assert len(parts["train"]) + len(parts["valid"]) == 80 and 2 < len(parts["valid"]) < 16
    assert not set(parts["train"]) & set(parts["valid"])


def test_an_unlabelled_test_folder_is_not_the_test_set(tmp_path):
    """As in Kaggle's downloads; the test split is then a part of the training pictures."""
    fill(tmp_path / "train", 40)
    solid(tmp_path / "test" / "1.png")
    parts = split_folder(tmp_path)
    assert sum(map(len, parts.values())) == 80 and all("train" in path.parts for path in parts["test"])


def test_classes_may_be_named_like_splits_if_there_are_others(tmp_path):
    assert {path.parent.name for path in split_folder(fill(tmp_path, 30, ("train", "bus")))["train"]} == {
        "train",
        "bus",
    }


def test_limit_reads_a_part_of_each_split(tmp_path, monkeypatch):
    fill(tmp_path, 40)
    read = []
    monkeypatch.setattr(folders, "read_pictures", lambda paths, size: read.extend(paths) or original(paths, size))
    data = load_folder(tmp_path, size=8, limit=5)
    assert [len(data.train), len(data.valid), len(data.test)] == [5, min(5, len(data.valid)), min(5, len(data.test))]
    assert len(read) <= 15


original = folders.read_pictures


def test_damaged_and_hidden_files_are_skipped_and_listed(tmp_path, capsys):
    fill(tmp_path, 40)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "cat" / "._0.png").write_bytes(b"metadata of macOS")
    png_header(tmp_path / "dog" / "huge.png", 30_000, 30_000)
    (tmp_path / "dog" / "bad.jpg").write_bytes(b"?")
    data = load_folder(tmp_path, size=8)
    assert sum(map(len, (data.train, data.valid, data.test))) == 80
    output = capsys.readouterr().out
    assert f"skipped  2 of 82 files in {tmp_path} cannot be read:" in output
    assert "dog/huge.png: it has more than 100 million pixels" in output
    assert "dog/bad.jpg: it is not a picture" in output
    for number in range(10):
        (tmp_path / "dog" / f"worse-{number}.jpg").write_bytes(b"?")
    load_folder(tmp_path, size=8)
    assert "and 2 more" in capsys.readouterr().out


def test_unsuitable_folders_are_explained_in_one_line(tmp_path):
    one = fill(tmp_path / "one", 3, ("cat",))
    flat = solid(tmp_path / "flat" / "1.png").parent
    other = tmp_path / "other" / "cat"
    other.mkdir(parents=True)
    (other / "1.heic").write_bytes(b"")
    few = fill(tmp_path / "few", 1)
    untrained = fill(tmp_path / "untrained" / "train", 30).parent
    fill(untrained / "test", 2, ("cat", "dog", "cow"))
    broken = fill(tmp_path / "broken", 30)
    for path in broken.rglob("*.png"):
        path.write_bytes(b"?")
    (tmp_path / "none").mkdir()
    for folder, message in (
        (one, "has one class only, cat: two or more folders with pictures are needed"),
        (flat, "has pictures, but no class folders: put those of each class in their own folder"),
        (other.parent, r"has no pictures \(\.bmp .* \.webp\) in class folders; it has 1 \.heic"),
        (tmp_path / "none", "it has no files"),
        (few, "has (too few|no training) pictures"),
        (untrained, "has no training pictures of class cow: add some, or remove the class"),
        (broken, r"has no readable picture for train; (cat|dog)/\d+\.png: it is not a picture"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            load_folder(folder, size=8)
        assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_load_pictures_takes_names_and_folders(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(folders, "load_images", lambda name, **options: asked.append((name, options)))
    for name in ("shapes", "auto", "cifar-10"):
        load_pictures(name, limit=3)
        assert asked.pop() == (name, {"preferred": "cifar-10", "limit": 3})
    assert load_pictures(str(fill(tmp_path / "pets")), limit=3).train.pixels.shape == (3, 3, 32, 32)
    with pytest.raises(
        ValueError, match=r"--data cifar10 is neither .*: choose from auto, cifar-10, shapes, or a folder"
    ):
        load_pictures("cifar10")
    with pytest.raises(ValueError, match="is a file"):
        load_pictures(str(solid(tmp_path / "1.png")))
