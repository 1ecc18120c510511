"""Flickr8k (Hodosh, Young & Hockenmaier 2013): 8,000 photographs, each with five captions.

    flickr8k/Images/*.jpg
    flickr8k/captions.txt                        lines `image,caption` below a header, or
    flickr8k/Flickr8k.token.txt                  lines `image#number<TAB>caption`
    flickr8k/Flickr_8k.{train,dev,test}Images.txt    the published splits, one file name per line

Without the split files, an eighth of the images is the validation set and another the test set.
"""

import csv
import io
import random
import re
from pathlib import Path

import torch

from common.data import published
from common.data.captions.captioned import CaptionedImages, CaptionSet, read_image
from common.data.source import DataUnavailable, sha256_of, sha256_of_lines

NAME = "flickr8k"
SPLIT_SEED = 0
WORD = re.compile(r"\w+(?:['’-]\w+)*")
Captions = dict[str, list[str]]
"""Captions of each image by its file name."""


def load_flickr8k(folder: Path, size: int, *, limit: int | None = None) -> CaptionSet:
    """Read Flickr8k with images of size × size pixels; the limit leaves that many images of each split.

    Raises DataUnavailable if the folder does not exist, FileNotFoundError or ValueError, naming file and line, if a
    file is missing or not in the layout.
    """
    if not folder.is_dir():
        raise DataUnavailable(
            f"{folder} does not exist: put Flickr8k's Images/ and captions.txt there, set DATA_DIR, "
            "or take the embedded set with --data scenes"
        )
    captions = read_captions(folder)
    names = read_splits(folder, captions)
    # The counts and the hash are those of all captions; the hash also covers the pixels of the images that were read.
    lines = [f"{name}\t{caption}" for its in names.values() for name in its for caption in captions[name]]
    splits = []
    for its in names.values():
        chosen = its[:limit]
        pixels = torch.stack([read_image(folder / "Images" / name, size) for name in chosen])
        splits.append(CaptionedImages(pixels, [captions[name] for name in chosen], []))
    sha256 = sha256_of_lines([*lines, sha256_of(*(split.pixels for split in splits))])
    shown = ", ".join(f"{len(split):,} {name}" for name, split in zip(("train", "valid", "test"), splits, strict=True))
    counts = {f"{split} images": len(its) for split, its in names.items()}
    card = published.card(NAME, sha256, f"{shown}, from {folder}", counts)
    return CaptionSet(card, *splits, held_out=None)


def normalise(caption: str) -> str:
    """Lower case, words separated by spaces, without punctuation."""
    return " ".join(WORD.findall(caption.lower()))


def read_captions(folder: Path) -> Captions:
    """Read the captions of a folder, normalised; captions without a word are left out."""
    table, tokens = folder / "captions.txt", folder / "Flickr8k.token.txt"
    if table.is_file():
        rows, path = _read_table(table), table
    elif tokens.is_file():
        rows, path = _read_tokens(tokens), tokens
    else:
        raise FileNotFoundError(f"{folder} has neither captions.txt nor Flickr8k.token.txt")
    captions: Captions = {}
    for name, caption in rows:
        if words := normalise(caption):
            captions.setdefault(name, []).append(words)
    if not captions:
        raise ValueError(f"{path} holds no captions")
    return captions


def _read_table(path: Path) -> list[tuple[str, str]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    rows = []
    try:
        for row in reader:
            if reader.line_num == 1:
                if [cell.strip() for cell in row] != ["image", "caption"]:
                    raise ValueError(f"{path} starts with {','.join(row)[:40]!r}: its first line must be image,caption")
            elif row:
                if len(row) != 2 or not row[0].strip() or "\n" in row[1]:  # a quotation mark that is not closed
                    raise ValueError(f"{path} line {reader.line_num} is not an image, a comma and a caption")
                rows.append((row[0].strip(), row[1]))
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} is not a line of comma-separated values: {error}") from error
    return rows


def _read_tokens(path: Path) -> list[tuple[str, str]]:
    rows = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, mark, _ = key.strip().rpartition("#")
        if not tab or not mark or not name:
            raise ValueError(f"{path} line {number} is {line[:40]!r}: a line is image#number, a tab and a caption")
        rows.append((name, caption))
    return rows


def read_splits(folder: Path, captions: Captions) -> dict[str, list[str]]:
    """Return the file names of the splits train, dev and test.

    Without split files, captioned images that are not in the folder are left out (Flickr8k.token.txt has one).
    """
    paths = {split: folder / f"Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing and len(missing) < len(paths):
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: put all three split files there, or none")
    if not missing:
        return {split: _read_names(path, captions) for split, path in paths.items()}
    names = sorted(name for name in captions if (folder / "Images" / name).is_file())
    if len(names) < 8:
        raise ValueError(f"{folder / 'Images'} holds {len(names)} images with captions; at least 8 are needed")
    random.Random(SPLIT_SEED).shuffle(names)
    eighth = len(names) // 8
    return {"train": names[2 * eighth :], "dev": names[:eighth], "test": names[eighth : 2 * eighth]}


def _read_names(path: Path, captions: Captions) -> list[str]:
    names = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        name = line.strip()
        if name and name not in captions:
            raise ValueError(f"{path} line {number}: {name!r} has no caption")
        names += [name] if name else []
    if not names:
        raise ValueError(f"{path} names no image")
    return names


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
