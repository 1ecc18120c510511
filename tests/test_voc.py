"""Folders in the layout of Pascal VOC: boxes, splits, and errors that name the file before memory is taken."""

import re
import struct
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.data.boxes import voc
from common.data.boxes.boxed import NO_BOX, BoxedImages, join, open_image, to_tensor
from common.data.boxes.loading import load_boxes
from common.data.source import DataUnavailable

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox></object>"""


def annotation(*objects, width: object = 40, height: object = 20):
    """Write an annotation with objects (name, difficult, xmin, ymin, xmax, ymax)."""
    body = "".join(OBJECT.format(*each) for each in objects)
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{body}</annotation>"


@pytest.fixture
def folder(tmp_path):
    """A folder with six images in three splits; the colour of the left half differs from that of the right."""
    root = tmp_path / "cells"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for number in range(6):
        image = Image.new("RGB", (40, 20), (10 * number, 0, 0))
        image.paste((0, 200, 0), (20, 0, 40, 20))
        image.save(root / f"JPEGImages/i{number}.jpg", quality=95)
        objects = [("cell", 0, 1, 1, 20, 20), ("dot", number % 2, 21, 11, 40, 20)][: 1 + (number < 4)]
        (root / f"Annotations/i{number}.xml").write_text(annotation(*objects))
    for split, names in (("train", "i0 i1 i2"), ("val", "i3"), ("test", "i4 i5")):
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(names.split()) + "\n")
    return root


def load(folder, **settings):
    return load_boxes("voc", folder=folder, **{"size": (40, 80), **settings})


def test_boxes_are_those_of_the_files_in_pixels_of_the_resized_images(folder):
    data = load(folder)
    assert data.class_names == ("cell", "dot")
    assert data.train.pixels.shape == (3, 3, 40, 80) and data.train.pixels.dtype == torch.uint8
    assert data.train.boxes[0].tolist() == [[0, 0, 40, 40], [40, 20, 80, 40]]
    assert data.train.labels.tolist() == [[0, 1]] * 3
    assert data.train.difficult.tolist() == [[False, False], [False, True], [False, False]]
    assert data.test.labels.tolist() == [[0]] * 2, "a class of the training set that the test set lacks"
    assert data.train.pixels[0, 1, :, 44:].float().mean() > 180 > 20 > data.train.pixels[0, 1, :, :36].float().mean()
    assert data.card.name == "cells" and not data.card.embedded
    assert data.card.description.startswith("3 train, 1 valid, 2 test images of 80 × 40, 10 boxes of 2 classes, from ")
    few = load(folder, limit=1)
    assert len(few.train) == len(few.test) == 1
    both = join(data.train, data.test)
    assert both.labels.tolist() == [[0, 1]] * 3 + [[0, NO_BOX]] * 2 and both.boxes.shape == (5, 2, 4)


def test_without_split_files_the_split_is_random_but_the_same(folder):
    for path in (folder / "ImageSets/Main").glob("*.txt"):
        path.unlink()
    with pytest.raises(ValueError, match="holds 6 annotations; at least 8 are needed"):
        voc.read_splits(folder)
    for number in range(6, 16):
        (folder / f"Annotations/i{number}.xml").write_text(annotation())
    splits = voc.read_splits(folder)
    assert splits == voc.read_splits(folder)
    assert sorted(name for names in splits.values() for name in names) == sorted(f"i{number}" for number in range(16))
    assert [len(splits[name]) for name in voc.SPLITS] == [12, 2, 2]


def test_boxes_without_area_are_left_out_and_counted(folder):
    (folder / "Annotations/i0.xml").write_text(annotation(("cell", 0, 5, 5, 5, 5), ("dot", 0, 1, 1, 2, 2)))
    data = load(folder)
    assert data.train.labels[0].tolist() == [1, NO_BOX]
    assert data.card.description.endswith("; left out: 1 boxes without area")


def test_images_without_boxes_are_allowed_unless_all_training_images_are(folder):
    (folder / "Annotations/i0.xml").write_text(annotation())
    assert load(folder).train.labels[0].tolist() == [NO_BOX, NO_BOX]
    for number in (1, 2):
        (folder / f"Annotations/i{number}.xml").write_text(annotation())
    with pytest.raises(ValueError, match="the annotations of the training images have no box"):
        load(folder)


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>
<annotation><size><width>&b;</width></size></annotation>"""
OUTSIDE_FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as an annotation: no element found"),
        ("<annotation>", "cannot be read as an annotation: no element found"),
        ("no xml", "cannot be read as an annotation: syntax error"),
        (BOMB, "cannot be read as an annotation: it has a document type declaration"),
        (OUTSIDE_FILE, "cannot be read as an annotation: it has a document type declaration"),
        ("<a>" * 100 + "</a>" * 100, "cannot be read as an annotation: its elements are nested more than 20 deep"),
        ("<svg></svg>", "starts with <svg>; an annotation of VOC starts with <annotation>"),
        ("<annotation></annotation>", "the size has '' as size width, which is not a number"),
        (annotation(width="wide"), "the size has 'wide' as size width, which is not a number"),
        (annotation(width=0), "the size 0 × 20 is not a number of pixels"),
        (annotation(("", 0, 1, 1, 9, 9)), "object 1 has no name"),
        (annotation(("dot", 0, 1, 1, "x", 9)), "object 1 (dot) has 'x' as bndbox xmax, which is not a number"),
        (annotation(("dot", 0, 1, 1, "nan", 9)), "object 1 (dot) has 'nan' as bndbox xmax, which is not a number"),
        (annotation(("dot", 0, 1, 1, "1e999", 9)), "object 1 (dot) has '1e999' as bndbox xmax, which is not a number"),
        (
            annotation(("cell", 0, 1, 1, 5, 5), ("dot", 0, 1, 1, 41, 9)),
            "object 2 (dot) has the box (1, 1) to (41, 9), outside the image of 40 × 20 pixels",
        ),
        (annotation(("dot", 0, -1, 1, 4, 9)), "object 1 (dot) has the box (-1, 1) to (4, 9), outside the image"),
        (annotation(("dot", 0, 9, 1, 4, 9)), "object 1 (dot) has the box (9, 1) to (4, 9): its corners are exchanged"),
    ],
)
def test_wrong_annotations_are_named(folder, text, message):
    path = folder / "Annotations/i1.xml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(folder)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_large_annotation_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(voc, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"i0.xml has \d+ bytes; an annotation has at most 100"):
        load(folder)


def test_unknown_class(folder):
    (folder / "Annotations/i4.xml").write_text(annotation(("cat", 0, 1, 1, 9, 9)))
    with pytest.raises(ValueError, match=r"i4.xml: object 1 has the class 'cat', which no training image has"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("Annotations/i2.xml", "i2.xml does not exist, but a split file names this image"),
        ("JPEGImages/i2.jpg", "i2.jpg does not exist, but .*i2.xml describes it"),
        ("ImageSets/Main/test.txt", "Main lacks test.txt: put all three there, or none"),
    ],
)
def test_missing_files_are_named(folder, part, message):
    (folder / part).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load(folder)


def test_missing_folders_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks the folder Annotations and JPEGImages: it is not in the layout"):
        load(tmp_path)
    with pytest.raises(DataUnavailable, match=r"bccd is not in .*BCCD: copy Annotations, JPEGImages and ImageSets"):
        load_boxes("bccd", size=(64, 64))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i0\ni1\ni0\n", "train.txt line 3: i0 is already in train.txt"),
        ("i0\n../../etc/passwd\n", "train.txt line 2: '../../etc/passwd' is not the name of an image"),
        ("\n\n", "train.txt names no image"),
        ("i0\ni4\n", "test.txt line 1: i4 is already in train.txt"),
    ],
)
def test_wrong_split_files_are_named(folder, text, message):
    (folder / "ImageSets/Main/train.txt").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        load(folder)


def png_header(width, height):
    """A PNG file that declares its size and has nearly no pixels."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def test_a_huge_image_is_rejected_by_its_header(folder):
    """900 million pixels in a file of 60 bytes: decoding would take gigabytes of memory."""
    (folder / "JPEGImages/i1.jpg").write_bytes(png_header(30_000, 30_000))
    with pytest.raises(ValueError, match=r"i1.jpg cannot be read as an image: .*900000000 pixels"):
        load(folder)
    (folder / "JPEGImages/i1.jpg").write_bytes(png_header(10_000, 8_000))  # below PIL's own limit
    with pytest.raises(
        ValueError, match=r"i1.jpg cannot be read as an image: 10,000 × 8,000 pixels are more than 50,0"
    ):
        load(folder)


def test_wrong_images_are_named(folder):
    path = folder / "JPEGImages/i1.jpg"
    Image.new("RGB", (20, 40)).save(path)
    with pytest.raises(ValueError, match=r"i1.jpg .*: it has 20 × 40 pixels, its annotation says 40 × 20"):
        load(folder)
    path.write_bytes((folder / "JPEGImages/i0.jpg").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"i1.jpg cannot be read as an image"):
        load(folder)


def test_memory_is_checked_before_it_is_taken(folder, monkeypatch):
    monkeypatch.setattr(voc, "MOST_MEMORY", 3 * 3 * 40 * 80 - 1)
    monkeypatch.setattr(voc, "open_image", lambda *_: pytest.fail("an image was decoded"))
    with pytest.raises(ValueError, match=r"3 images of 80 × 40 pixels need 0.0 GB of memory: use --limit"):
        load(folder)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 40))
def test_damaged_annotations_raise_one_line_errors(tmp_path_factory, junk, place, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.xml"
    whole = annotation(("cell", 0, 1, 1, 5, 5), ("dot", 1, 1, 1, 4, 9)).encode()
    path.write_bytes(whole[:place] + junk + whole[place + cut :])
    try:
        found = voc.read_annotation(path)
    except ValueError as error:
        message = str(error)
    else:
        message = str(path)
        for each in found.objects:
            assert 0 <= each.box[0] < each.box[2] <= found.size[0] and 0 <= each.box[1] < each.box[3] <= found.size[1]
    assert str(path) in message


def test_upright_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg", upright=True).size == (20, 40)
    assert open_image(tmp_path / "turned.jpg").size == (40, 20), "boxes refer to the stored pixels"
    assert to_tensor(open_image(tmp_path / "turned.jpg"), 8, 16).shape == (3, 8, 16)


@pytest.mark.usefixtures("real_data")
def test_bccd():
    from common.data.source import data_dir

    if not (data_dir() / "BCCD").is_dir():
        pytest.skip("BCCD is not in DATA_DIR")
    data = load_boxes("bccd", size=(32, 32), limit=6)
    assert data.class_names == ("Platelets", "RBC", "WBC")
    assert isinstance(data.train, BoxedImages) and len(data.train) == 6
    assert data.card.published == "bccd", "a part of the set"
