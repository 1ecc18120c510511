"""Test sets for word vectors: pairs of words with human ratings of their similarity, and analogy questions.

    wordsim-353   353 pairs, rated by relatedness (Finkelstein et al. 2002)
    simlex-999    999 pairs, rated by similarity as opposed to relatedness (Hill, Reichart & Korhonen 2015)
    google        19,544 analogy questions in 14 families (Mikolov et al. 2013)

The files are read from DATA_DIR, or else from an installed gensim, whose test data include them.
"""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from common.data.source import DataUnavailable, data_dir
from common.data.words.analogies import Question

PairSet = Literal["wordsim-353", "simlex-999"]

FILES = {"wordsim-353": "wordsim353.tsv", "simlex-999": "simlex999.txt", "google": "questions-words.txt"}


@dataclass(frozen=True)
class WordPair:
    """Two words and the mean human rating of their similarity."""

    first: str
    second: str
    rating: float


def find_file(name: str) -> Path:
    """Return the file of a test set.

    Raises DataUnavailable if it is neither in DATA_DIR nor in an installed gensim.
    """
    path = data_dir() / FILES[name]
    if path.is_file():
        return path
    gensim = find_spec("gensim")  # this does not import it
    if gensim is not None and gensim.origin is not None:
        shipped = Path(gensim.origin).parent / "test" / "test_data" / FILES[name]
        if shipped.is_file():
            return shipped
    raise DataUnavailable(
        f"{name} not found: {path} does not exist, and gensim, which contains it, is not installed: "
        "pip install '.[vectors]'"
    )


def load_pairs(name: PairSet) -> list[WordPair]:
    """Load a set of word pairs: two words and a rating per line, separated by tabs; lines with # are comments.

    Raises DataUnavailable if the file is not found, ValueError, naming file and line, if it has another format.
    """
    path, pairs = find_file(name), []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split("\t")
        rating = _number(parts[2]) if len(parts) == 3 else None
        if rating is None:
            raise ValueError(f"{path} line {number} is {line[:60]!r}: it must have two words and a number, with tabs")
        pairs.append(WordPair(parts[0].strip(), parts[1].strip(), rating))
    if not pairs:
        raise ValueError(f"{path} contains no pairs of words")
    return pairs


def load_analogies() -> list[Question]:
    """Load the Google analogy questions: four words per line, below `: family` lines.

    Raises DataUnavailable if the file is not found, ValueError, naming file and line, if it has another format.
    """
    path, found, family = find_file("google"), [], ""
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if line.startswith(":"):
            family = line[1:].strip()
        elif len(words) == 4 and family:
            found.append(Question(family, *words))
        elif words:
            raise ValueError(
                f"{path} line {number} is {line[:60]!r}: it must be ': family', or four words below such a line"
            )
    if not found:
        raise ValueError(f"{path} contains no questions")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
