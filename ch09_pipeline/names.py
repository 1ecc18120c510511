"""List the input files, check their names, and encode them for the names of results.

Snakemake reads `{name}` in the name of an output as a wildcard and `<name>` as a variable, so the names of results
percent-encode these characters. Names that cannot be encoded are reported before any job runs. This file does not
import torch, because the Snakefile imports it.
"""

import os
import re
import unicodedata
from pathlib import Path

WILDCARD = re.compile(r"[{}<>]")
RESERVED = re.compile(r"[{}<>%]")
PERIODIC = re.compile(r"(.+)\1{19}$", re.DOTALL)
"""Names that Snakemake rejects as the value of a wildcard: those ending in 20 repetitions of a part."""
MAX_NAME_BYTES = 255 - len(".-12345678")
"""Maximum length of a result's name in bytes: the file system's limit minus the suffix of temporary files."""
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, bytes that are not UTF-8, line and paragraph separators."""
KEPT = ("model.safetensors", "config.json", "metrics.jsonl", "curves.png", "filters.png", "gradcam.png")
"""Files of chapter 6's run folder that `train` keeps beside its card."""
BATCH_SUFFIX, PICTURE_SUFFIX = ".safetensors", ".json"
"""Longest suffix that results add to the stem of a batch and to the name of an image."""


def encode(name: str) -> str:
    """Percent-encode a file name for the names of results: `x{y}` becomes `x%7By%7D`."""
    return RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", name)


def decode(name: str) -> str:
    """Reverse `encode`."""
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), name)


def batches(folder: Path) -> list[Path]:
    """List the batches of a folder: *.bin, without hidden files."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".bin" and not path.name.startswith("."))


def pictures(folder: Path) -> list[Path]:
    """List the new images of a folder: all files, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())


def check_batches(folder: Path) -> None:
    """Raise ValueError if a batch has an unusable name, is not a regular file, or cannot be read."""
    for path in batches(folder):
        if PERIODIC.search(encode(path.stem)):
            raise ValueError(f"{path}: its name ends in a part repeated 20 times, which Snakemake rejects: rename it")
        _check(path, encode(path.stem) + BATCH_SUFFIX)


def check_pictures(folder: Path) -> None:
    """Raise ValueError if a new image has an unusable name, is not a regular file, or cannot be read."""
    for path in pictures(folder):
        _check(path, encode(path.name) + PICTURE_SUFFIX)


def _check(path: Path, result: str) -> None:
    if any(unicodedata.category(character) in UNPRINTABLE for character in path.name):
        raise ValueError(
            f"{str(path)!r}: its name has a line break, a control character or a non-UTF-8 byte: rename it"
        )
    if (excess := len(os.fsencode(result)) - MAX_NAME_BYTES) > 0:
        raise ValueError(f"{path}: with the suffix of results, its name is {excess} bytes too long: rename it")
    if not path.is_file():
        raise ValueError(f"{path} is not a file, or a broken link: remove it or restore it")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path}: no read permission: change its permissions")
