"""The files of a repository, and how their names are spelled in the names of results.

Snakemake reads `{name}` in the name of an output as a wildcard and `<name>` as a variable, so results spell these
characters by their codes, as in web addresses. Names that cannot be used at all are refused before anything runs. No
torch here: the Snakefile imports this file.
"""

import os
import re
import unicodedata
from pathlib import Path

WILDCARD = re.compile(r"[{}<>]")
RESERVED = re.compile(r"[{}<>%]")
PERIODIC = re.compile(r"(.+)\1{19}$", re.DOTALL)
"""What Snakemake refuses as a wildcard: a name that ends in 20 repetitions."""
LONGEST = 255 - len(".-12345678")
"""Bytes of the name of a result: the file system's limit without what a temporary name adds (`common.files`)."""
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, bytes that are not UTF-8, separators of lines and paragraphs."""
BATCH_SUFFIX, PICTURE_SUFFIX = ".safetensors", ".json"
"""The longest suffix that results add to the stem of a batch and to the name of a picture."""


def encode(name: str) -> str:
    """Spell the name of a file as results have it: `x{y}` as `x%7By%7D`."""
    return RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", name)


def decode(name: str) -> str:
    """Give back the name that was encoded."""
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), name)


def batches(folder: Path) -> list[Path]:
    """List the batches of a folder: its *.bin, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".bin" and not path.name.startswith("."))


def pictures(folder: Path) -> list[Path]:
    """List the new pictures of a folder: its files, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())


def check_batches(folder: Path) -> None:
    """Raise ValueError for a batch whose name cannot be used, or that cannot be read."""
    for path in batches(folder):
        if PERIODIC.search(encode(path.stem)):
            raise ValueError(f"{path}: its name ends in a part repeated 20 times, which Snakemake refuses: rename it")
        _check(path, encode(path.stem) + BATCH_SUFFIX)


def check_pictures(folder: Path) -> None:
    """Raise ValueError for a new picture whose name cannot be used, or that cannot be read."""
    for path in pictures(folder):
        _check(path, encode(path.name) + PICTURE_SUFFIX)


def _check(path: Path, result: str) -> None:
    if any(unicodedata.category(character) in UNPRINTABLE for character in path.name):
        raise ValueError(
            f"{str(path)!r}: its name has a line break, a control character or a non-UTF-8 byte: rename it"
        )
    if (excess := len(os.fsencode(result)) - LONGEST) > 0:
        raise ValueError(f"{path}: with what results add, its name is {excess} bytes too long: rename it")
    if not path.is_file():
        raise ValueError(f"{path} is not a file, or a broken link: remove it or restore it")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path} may not be read: change its permissions")
