"""Read masks in the layout of Pascal VOC (Everingham et al. 2010).

    FOLDER/JPEGImages/NAME.jpg
    FOLDER/SegmentationClass/NAME.png                       palette image: class of each pixel; 255 is void
    FOLDER/ImageSets/Segmentation/{train,val,test}.txt      one name per line
    FOLDER/classes.txt                                      optional: name of each class, one per line, background first

VOC publishes no masks of its test set. Without test.txt, the images of val.txt are the test set, and an eighth of those
of train.txt is the validation set.

Without classes.txt, the classes are 0 up to the largest value in the training masks; if that is 20, they have the names
of VOC.

All headers are checked before the first image is decoded.

Dimensions: N images, H, W height and width, K classes.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch

from common.data.boxes.voc import SPLIT_SEED, SPLITS, read_names
from common.data.masks.masked import VOID, MaskedImages, Pair, check_classes, check_pairs, read_pair

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Classes of Pascal VOC, in the order of their values in the masks."""


def read_splits(folder: Path, limit: int | None = None) -> dict[str, list[Pair]]:
    """Return the files of at most `limit` images of each of the splits train, val and test.

    Raises FileNotFoundError if a part of the folder is missing, ValueError, naming file and line, for a wrong name.
    """
    missing = [part for part in ("JPEGImages", "SegmentationClass") if not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks the folder {' and '.join(missing)}: it is not in the layout of VOC")
    lists = folder / "ImageSets" / "Segmentation"
    paths = {split: lists / f"{split}.txt" for split in SPLITS}
    absent = [path.name for split, path in paths.items() if split != "test" and not path.is_file()]
    if absent:
        raise FileNotFoundError(f"{lists} lacks {' and '.join(absent)}")
    names = read_names({split: path for split, path in paths.items() if path.is_file()})
    if "test" not in names:
        names["test"], train = names["val"], sorted(names["train"])
        if len(train) < 2:
            raise ValueError(f"{paths['train']} names one image; without test.txt, at least 2 are needed")
        random.Random(SPLIT_SEED).shuffle(train)
        eighth = max(1, len(train) // 8)
        names["val"], names["train"] = train[:eighth], train[eighth:]
    return {
        split: [Pair(image_path(folder, name), folder / "SegmentationClass" / f"{name}.png") for name in its[:limit]]
        for split, its in names.items()
    }


def image_path(folder: Path, name: str) -> Path:
    """Return the image of a name: a JPEG or PNG file."""
    paths = [folder / "JPEGImages" / f"{name}{ending}" for ending in (".jpg", ".jpeg", ".png")]
    return next((path for path in paths if path.is_file()), paths[0])


def read_classes(folder: Path) -> tuple[str, ...]:
    """Read the names of the classes from classes.txt; empty if the folder has no such file."""
    path = folder / "classes.txt"
    if not path.is_file():
        return ()
    try:
        names = tuple(line.strip() for line in path.read_bytes().decode("utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
    if not 2 <= len(names) <= VOID:
        raise ValueError(f"{path} names {len(names)} classes; at least 2 and at most {VOID} are needed")
    if len(set(names)) < len(names):
        raise ValueError(f"{path} names a class twice: {next(name for name in names if names.count(name) > 1)}")
    return names


def load_split(pairs: Sequence[Pair], size: tuple[int, int], classes: int, rule: str) -> MaskedImages:
    """Load the images and masks of a split, resized to (height, width).

    Raises ValueError, naming the file and the rule, for a class outside 0 ... K - 1.
    """
    pixels = torch.empty(len(pairs), 3, *size, dtype=torch.uint8)
    masks = torch.empty(len(pairs), *size, dtype=torch.uint8)
    for row, pair in enumerate(pairs):
        pixels[row], masks[row] = read_pair(pair, size)
        check_classes(masks[row], classes, pair.mask, rule)
    return MaskedImages(pixels, masks)


def load_folder(
    folder: Path, size: tuple[int, int], limit: int | None = None
) -> tuple[tuple[str, ...], dict[str, MaskedImages]]:
    """Load the names of the classes and the three splits of a folder."""
    splits = read_splits(folder, limit)
    for pairs in splits.values():
        check_pairs(pairs, size)
    names = read_classes(folder)
    rule = f"{folder / 'classes.txt'} names {len(names)} classes" if names else "no training mask has this class"
    train = load_split(splits["train"], size, len(names) or VOID, rule)
    present = train.masks[train.masks != VOID].unique().tolist()
    if len(present) < 2:
        which = f"only the class {present[0]}" if present else "only void pixels"
        raise ValueError(f"{folder / 'SegmentationClass'}: the training masks have {which}; at least 2 are needed")
    if not names:
        count = max(present) + 1
        names = NAMES if count == len(NAMES) else ("background", *(f"class {number}" for number in range(1, count)))
    others = {split: load_split(splits[split], size, len(names), rule) for split in ("val", "test")}
    return names, {"train": train, **others}
