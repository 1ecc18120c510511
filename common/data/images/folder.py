"""Load a folder of pictures, which has one folder per class, as an image set.

    pets/cat/*.jpg, pets/dog/*.jpg                       a fixed split by file name: 80 % train, 10 % valid, 10 % test
    pets/train/cat/*.jpg, ..., pets/test/cat/*.jpg       a given split; valid may be given too

Dimensions: N images, S side length.
"""

import hashlib
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from common.data import published
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.data.images.picture import SUFFIXES, is_picture, read_pictures
from common.data.source import DataCard, sha256_of
from common.progress import say

NAMED = ("auto", "cifar-10", "shapes")

PictureData = Annotated[
    Literal["auto", "cifar-10", "shapes"] | str, tyro.conf.arg(metavar="{auto,cifar-10,shapes}|FOLDER")
]
"""Type of --data: a named set of colour images, or a folder of class folders."""

PARTS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
"""Splits, and the names of their folders."""

TENTHS = {0: "test", 1: "valid"}
"""Splits of two tenths of the file names; the other eight are for training."""

LISTED = 10
"""Maximum number of unreadable files that are listed."""


def load_pictures(data: str, *, size: int = 32, limit: int | None = None) -> ImageSet:
    """Load colour images: a named set (32x32 pixels), or a folder of class folders, resized to S x S pixels.

    Raises ValueError if there is no such set or folder, or if the folder is not suitable; DataUnavailable if a named
    set is not on disk and cannot be downloaded.
    """
    if data == "auto" or data == "cifar-10" or data == "shapes":
        return load_images(data, preferred="cifar-10", limit=limit)
    folder = Path(data)
    if not folder.is_dir():
        reason = "is a file" if folder.exists() else "is neither a data set nor a folder"
        raise ValueError(
            f"--data {data} {reason}: choose from {', '.join(NAMED)}, or a folder with one folder per class"
        )
    return load_folder(folder, size=size, limit=limit)


def load_folder(folder: Path, *, size: int, limit: int | None = None) -> ImageSet:
    """Load the pictures in the class folders of a folder; unreadable files are listed and skipped.

    A picture is in the same split in every run, also after others have been added. Raises ValueError if there are no
    pictures, less than two classes, or no pictures in a split.
    """
    parts = split_folder(folder)
    names = sorted({path.parent.name for paths in parts.values() for path in paths})
    check_classes(folder, names, parts)
    splits, unreadable = {}, {}
    for part, paths in parts.items():
        chosen = paths[:limit]
        pixels, readable, reasons = read_pictures(chosen, size)
        labels = [names.index(chosen[place].parent.name) for place in readable]
        splits[part] = Split(pixels, torch.tensor(labels, dtype=torch.long))
        unreadable |= reasons
    report_skipped(folder, unreadable, sum(len(paths[:limit]) for paths in parts.values()))
    for part, split in splits.items():
        if not len(split):
            path, reason = next(iter(unreadable.items()))
            raise ValueError(f"{folder} has no readable picture for {part}; {path.relative_to(folder)}: {reason}")
    sha256 = sha256_of(*(tensor for split in splits.values() for tensor in (split.pixels, split.labels)))
    sizes = ", ".join(f"{len(split):,} {part}" for part, split in splits.items())
    description = f"{sizes}, {len(names)} classes, from {folder}"
    return ImageSet(
        DataCard(published.own_name(folder.resolve().name), False, sha256, description), tuple(names), **splits
    )


def split_folder(folder: Path) -> dict[str, list[Path]]:
    """List the pictures of each split, in an order that does not depend on the class.

    Folders train, valid (or val, validation) and test are used if there are no other folders. Without pictures for
    validation or test, a part of the training pictures is used.
    """
    given = {name: part for part, aliases in PARTS.items() for name in aliases}
    found = {path.name for path in visible_folders(folder)}
    if not ("train" in found and found <= given.keys()):
        parts: dict[str, list[Path]] = {part: [] for part in PARTS}
        for path in class_pictures(folder):
            parts[part_of(folder, path)].append(path)
        return parts
    parts = {part: [] for part in PARTS}
    for name in sorted(found):
        parts[given[name]] += class_pictures(folder / name)
    missing = {part for part in ("valid", "test") if not parts[part]}
    for path in parts["train"] if missing else []:
        if part_of(folder, path) in missing:
            parts[part_of(folder, path)].append(path)
    parts["train"] = [path for path in parts["train"] if path not in set(parts["valid"] + parts["test"])]
    return parts


def visible_folders(folder: Path) -> list[Path]:
    """List the folders in a folder, without hidden ones and those of archive programs such as __MACOSX."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def class_pictures(folder: Path) -> list[Path]:
    """List the pictures in the class folders of a folder, ordered by the hash of their names."""
    paths = (path for place in visible_folders(folder) for path in place.iterdir() if is_picture(path))
    return sorted(paths, key=lambda path: digest(folder, path))


def digest(folder: Path, path: Path) -> int:
    """Hash a path relative to the folder; the same on every machine."""
    name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())  # macOS decomposes accented letters
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())


def part_of(folder: Path, path: Path) -> str:
    """Assign a picture to a split by the hash of its path."""
    return TENTHS.get(digest(folder, path) % 10, "train")


def check_classes(folder: Path, names: list[str], parts: dict[str, list[Path]]) -> None:
    """Raise ValueError, with what to do, unless two or more classes have training pictures and no split is empty."""
    if not names:
        if any(map(is_picture, folder.iterdir())):
            raise ValueError(
                f"{folder} has pictures, but no class folders: put those of each class in their own folder"
            )
        others = Counter(path.suffix.lower() for path in folder.rglob("*") if path.is_file()).most_common(3)
        instead = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in others) or "no files"
        raise ValueError(f"{folder} has no pictures ({' '.join(SUFFIXES)}) in class folders; it has {instead}")
    if len(names) == 1:
        raise ValueError(f"{folder} has one class only, {names[0]}: two or more folders with pictures are needed")
    trained = {path.parent.name for path in parts["train"]}
    for name in names:
        if name not in trained:
            raise ValueError(f"{folder} has no training pictures of class {name}: add some, or remove the class")
    for part, paths in parts.items():
        if not paths:
            raise ValueError(f"{folder} has too few pictures: none of them is in the split {part}; add some")


def report_skipped(folder: Path, reasons: dict[Path, str], total: int) -> None:
    """Print the unreadable files with the reasons."""
    if reasons:
        say("skipped", f"{len(reasons):,} of {total:,} files in {folder} cannot be read:")
    for path, reason in list(reasons.items())[:LISTED]:
        say("", f"{path.relative_to(folder)}: {reason}")
    if len(reasons) > LISTED:
        say("", f"and {len(reasons) - LISTED:,} more")
