"""Images with masks: folders in the layout of Pascal VOC, membranes, cells; errors before memory is taken."""

import re

import pytest
import torch
from PIL import Image

from common.data.masks import masked, membranes, voc
from common.data.masks.cells import draw_cells
from common.data.masks.loading import load_masks, load_slices
from common.data.masks.masked import VOID
from common.data.source import DataUnavailable
from test_voc import png_header

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, *[250] * 759]


def save_mask(path, size=(40, 20), right=1, void=True, mode="P"):
    """Save a mask: class 0, in the right half the class `right`, and void in the last column."""
    mask = Image.new(mode, size, 0)
    if mode == "P":
        mask.putpalette(PALETTE)
    mask.paste(right, (size[0] // 2, 0, *size))
    if void:
        mask.paste(VOID, (size[0] - 1, 0, *size))
    mask.save(path)


def make_folder(root):
    """Make a folder with six images in three splits; the colour of the left half differs from that of the right."""
    for name in ("SegmentationClass", "JPEGImages", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for number in range(6):
        image = Image.new("RGB", (40, 20), (10 * number, 0, 0))
        image.paste((0, 200, 0), (20, 0, 40, 20))
        image.save(root / f"JPEGImages/i{number}.jpg", quality=95)
        save_mask(root / f"SegmentationClass/i{number}.png", right=1 + number % 2)
    for split, names in (("train", "i0 i1 i2"), ("val", "i3"), ("test", "i4 i5")):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names.split()) + "\n")
    return root


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "cells")


def load(folder, **settings):
    return load_masks("voc", folder=folder, **{"size": (40, 80), **settings})


def test_masks_are_the_indices_of_the_palette_resized_to_the_nearest_pixel(folder):
    data = load(folder)
    assert data.class_names == ("background", "class 1", "class 2")
    assert data.train.pixels.shape == (3, 3, 40, 80) and data.train.masks.shape == (3, 40, 80)
    assert data.train.masks.dtype == data.train.pixels.dtype == torch.uint8
    for row, right in enumerate((1, 2, 1)):
        assert (data.train.masks[row, :, :40] == 0).all()
        assert (data.train.masks[row, :, 40:78] == right).all(), "not a mixture of 0 and 255"
        assert (data.train.masks[row, :, 78:] == VOID).all()
    assert data.train.pixels[0, 1, :, 44:].float().mean() > 180 > 20 > data.train.pixels[0, 1, :, :36].float().mean()
    assert data.card.name == "cells" and not data.card.embedded
    assert data.card.description.startswith("3 train, 1 valid, 2 test images of 80 × 40, 3 classes, from ")
    (folder / "classes.txt").write_text("ground\ncat\ndog\n")
    few = load(folder, limit=1)
    assert len(few.train) == len(few.test) == 1


def test_without_a_test_list_the_validation_images_are_the_test_set(folder):
    (folder / "ImageSets/Segmentation/test.txt").unlink()
    splits = voc.read_splits(folder)
    names = {split: [pair.image.stem for pair in pairs] for split, pairs in splits.items()}
    assert names["test"] == ["i3"]
    assert sorted(names["train"] + names["val"]) == ["i0", "i1", "i2"] and len(names["val"]) == 1
    assert voc.read_splits(folder) == splits
    (folder / "ImageSets/Segmentation/train.txt").write_text("i0\n")
    with pytest.raises(ValueError, match=r"train.txt names one image; without test.txt, at least 2 are needed"):
        voc.read_splits(folder)


def test_names_of_the_classes(folder):
    (folder / "classes.txt").write_text("ground\ncat\ndog\nbird\n")
    assert load(folder).class_names == ("ground", "cat", "dog", "bird")
    for text, message in (
        ("ground\n", "names 1 classes; at least 2"),
        ("a\nb\na\n", "names a class twice: a"),
        ("ground\ncat\n", r"i1.png has the class 2 at row 0, column 40: .*classes.txt names 2 classes"),
    ):
        (folder / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            load(folder)
    (folder / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"classes.txt is not UTF-8: byte 0 cannot be decoded"):
        load(folder)
    (folder / "classes.txt").unlink()
    save_mask(folder / "SegmentationClass/i0.png", right=20)
    assert load(folder).class_names == voc.NAMES and len(voc.NAMES) == 21


def test_a_class_without_training_pixels_is_named(folder):
    save_mask(folder / "SegmentationClass/i4.png", right=9)
    with pytest.raises(
        ValueError, match=r"i4.png has the class 9 at row 0, column 40: no training mask has this class"
    ):
        load(folder)


def test_one_class_is_too_few(folder):
    for number in range(3):
        save_mask(folder / f"SegmentationClass/i{number}.png", right=0)
    with pytest.raises(ValueError, match="the training masks have only the class 0; at least 2 are needed"):
        load(folder)
    for number in range(3):
        Image.new("L", (40, 20), VOID).save(folder / f"SegmentationClass/i{number}.png")
    with pytest.raises(ValueError, match="the training masks have only void pixels"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("SegmentationClass/i2.png", "i2.png does not exist"),
        ("JPEGImages/i2.jpg", "i2.jpg does not exist"),
        ("ImageSets/Segmentation/val.txt", "Segmentation lacks val.txt"),
    ],
)
def test_missing_files_are_named(folder, part, message):
    (folder / part).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load(folder)


def test_missing_folders_and_empty_splits_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks the folder JPEGImages and SegmentationClass: it is not in the"):
        load(tmp_path)
    (folder / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val.txt names no image"):
        load(folder)
    (folder / "ImageSets/Segmentation/val.txt").write_text("../../etc/passwd\n")
    with pytest.raises(ValueError, match=r"val.txt line 1: '../../etc/passwd' is not the name of an image"):
        load(folder)


def test_wrong_files_are_named_before_an_image_is_decoded(folder, monkeypatch):
    monkeypatch.setattr(masked, "open_image", lambda *_: pytest.fail("an image was decoded"))
    path = folder / "SegmentationClass/i4.png"
    whole = path.read_bytes()
    save_mask(path, size=(30, 20))
    with pytest.raises(ValueError, match=r"i4.png has 30 × 20 pixels, but its image i4.jpg has 40 × 20"):
        load(folder)
    Image.new("RGB", (40, 20)).save(path)
    with pytest.raises(ValueError, match=r"i4.png has the mode RGB: a mask is a palette or grey image"):
        load(folder)
    path.write_text("no image")
    with pytest.raises(ValueError, match=r"i4.png cannot be read as an image"):
        load(folder)
    path.write_bytes(png_header(30_000, 30_000))
    with pytest.raises(ValueError, match=r"i4.png cannot be read as an image: .*900000000 pixels"):
        load(folder)
    path.write_bytes(png_header(10_000, 8_000))  # below PIL's own limit
    with pytest.raises(ValueError, match=r"i4.png has 10,000 × 8,000 pixels, more than 50,000,000: make it smaller"):
        load(folder)
    path.write_bytes(whole)
    monkeypatch.setattr(masked, "MOST_MEMORY", 2 * 4 * 40 * 80)
    with pytest.raises(ValueError, match=r"3 images and masks need 0.0 GB: use --limit or smaller images"):
        load(folder)


def test_a_truncated_mask_is_named(folder):
    path = folder / "SegmentationClass/i1.png"
    path.write_bytes(path.read_bytes()[:70])
    with pytest.raises(ValueError, match=r"i1.png cannot be read as an image"):
        load(folder)


def test_scenes_have_their_class_masks():
    data = load_masks("scenes", size=(64, 64), limit=8)
    assert data.class_names == ("background", "disc", "square", "triangle", "cross", "ring", "star")
    assert data.train.masks.shape == (8, 64, 64) and data.train.masks.max() <= 6
    inside = data.train.masks > 0
    assert 0.05 < inside.float().mean() < 0.9


# Slices.


@pytest.fixture
def slices(tmp_path, monkeypatch):
    """Twelve slices; slice n has the grey level n, its label is black in the first n columns."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    for name in ("images", "labels"):
        (tmp_path / "membranes" / name).mkdir(parents=True)
    for number in range(12):
        Image.new("L", (16, 8), number).save(tmp_path / f"membranes/images/{number}.png")
        label = Image.new("L", (16, 8), 255)
        label.paste(0, (0, 0, number, 8))
        label.save(tmp_path / f"membranes/labels/{number}.png")
    return tmp_path / "membranes"


def test_membranes_are_black_and_in_the_order_of_their_numbers(slices):
    data = load_masks("membranes", size=(8, 16), fold=2, folds=4)
    assert data.class_names == ("cell", "membrane")
    assert data.test.pixels[:, 0, 0, 0].tolist() == [3, 4, 5]
    assert data.test.masks.flatten(1).sum(1).tolist() == [3 * 8, 4 * 8, 5 * 8]
    assert data.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 6, 7, 8, 9, 10, 11] and len(data.valid) == 0
    assert data.card.name == "membranes (partial: 12 of 30 slices)"
    few = load_masks("membranes", size=(8, 16), limit=2)
    assert (len(few.train), len(few.test)) == (2, 2)


def test_wrong_slices_are_named(slices):
    with pytest.raises(ValueError, match="--folds must be at most the number of slices, 12, got 13"):
        load_masks("membranes", size=(8, 16), folds=13)
    Image.new("L", (16, 9)).save(slices / "labels/7.png")
    with pytest.raises(ValueError, match=r"labels/7.png has 16 × 9 pixels, but its image 7.png has 16 × 8"):
        load_slices("membranes")
    Image.new("L", (16, 9)).save(slices / "images/7.png")
    with pytest.raises(ValueError, match=r"images/7.png has 16 × 9 pixels, but the first slice has 16 × 8"):
        load_slices("membranes")
    (slices / "labels/7.png").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape("labels/7.png does not exist")):
        load_slices("membranes")
    for path in (slices / "images").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="images has no PNG files"):
        load_slices("membranes")


def test_without_membranes_the_message_says_where_to_put_them():
    with pytest.raises(
        DataUnavailable, match=r"membranes are not in .*membranes: copy the slices of the ISBI challenge"
    ):
        membranes.load_slices()


def test_cells_are_the_same_on_every_call_and_adjacent_slices_are_similar():
    cells = draw_cells()
    assert cells.pixels.shape == (30, 3, 128, 128) and torch.equal(draw_cells().pixels, cells.pixels)
    shares = cells.masks.float().mean((1, 2))
    assert shares.min() > 0.05 and shares.max() < 0.4 and cells.masks.max() == 1
    grey = cells.pixels[:, 0].float()
    assert grey[cells.masks == 1].mean() < grey[cells.masks == 0].mean() - 30

    def agreement(step):
        both = (cells.masks[:-step] & cells.masks[step:]).sum()
        return float(both / (cells.masks[:-step] | cells.masks[step:]).sum())

    assert agreement(1) > 1.5 * agreement(10)
