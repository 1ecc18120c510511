"""Nearest neighbours and analogies of word vectors; read and write files of word vectors.

python -m ch05_rnn.nearest --near paris
python -m ch05_rnn.nearest --analogy man king woman               # man is to king as woman is to ?
python -m ch05_rnn.nearest --near colder --model fasttext         # newest run of fasttext
python -m ch05_rnn.nearest --near paris --model glove-6b-50d      # pre-trained vectors
python -m ch05_rnn.nearest --near paris --load vectors.txt        # a file in the format of word2vec or GloVe
python -m ch05_rnn.nearest --save vectors.txt --format glove      # write the vectors of the newest run of word2vec
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from ch05_rnn.words import fasttext, glove, word2vec
from ch05_rnn.words.vectors import Vectors
from common.cli import one_line_errors, parse
from common.config import require
from common.data.words.vector_files import Format, load_glove, read_vectors, write_vectors
from common.progress import print_table, say
from common.run_folders.folder import newest_run


@dataclass(frozen=True)
class Config:
    """A query and the vectors to search."""

    near: str | None = None
    """Word whose nearest neighbours are listed."""
    analogy: tuple[str, str, str] | None = None
    """Words A B C of an analogy: A is to B as C is to ?"""
    top: int = 10
    """Number of words to list."""
    model: Literal["word2vec", "glove", "fasttext", "glove-6b-50d"] = "word2vec"
    """Vectors to search: those of the newest run of a program, or the pre-trained vectors of GloVe 6B."""
    load: Path | None = None
    """File of vectors to search instead, in the text format of word2vec or GloVe."""
    limit: int | None = None
    """Use only the first N vectors; most files start with the most frequent words. Default: all."""
    save: Path | None = None
    """File to which the vectors are written."""
    format: Format = "word2vec"
    """Format of --save: word2vec starts with a line with the number of words and the vector size, glove does not."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        queries = (self.near is not None) + (self.analogy is not None)
        require(
            queries == 1 or (queries == 0 and self.save is not None),
            "give one of --near and --analogy, or only --save",
            "both" if queries else "none",
        )
        require(self.top > 0, "--top must be at least 1", self.top)
        require(self.limit is None or self.limit > 0, "--limit must be at least 1", self.limit)


def load_vectors(config: Config) -> tuple[Vectors, Tensor]:
    """Return the vectors to search, and the same as a (V, D) matrix before normalisation."""
    if config.load is None and config.model == "fasttext":  # the model itself, for words that were not in its text
        model, vocabulary, its = fasttext.restore(newest_run(config.out, fasttext))
        subwords = fasttext.make_subwords(vocabulary, its)
        words, matrix = vocabulary.symbols[: config.limit], fasttext.word_matrix(model, subwords)[: config.limit]
        return Vectors(words, matrix, partial(fasttext.compose, model, subwords)), matrix
    if config.load is None and config.model == "glove-6b-50d":
        found, _ = load_glove(limit=config.limit)
    else:
        program = glove if config.model == "glove" else word2vec
        found = read_vectors(config.load or newest_run(config.out, program) / "vectors.txt", limit=config.limit)
    if found.duplicates:
        say("note", f"{found.duplicates:,} lines ignored, because earlier lines have the same words")
    return Vectors(found.words, found.vectors), found.vectors


def search(vectors: Vectors, config: Config) -> tuple[str, list[tuple[str, float]]]:
    """Return the query as text, and the words found with their cosine similarities, largest first."""
    if config.analogy is not None:
        a, b, c = config.analogy
        return f"{a} is to {b} as {c} is to ?", vectors.analogy(a, b, c, count=config.top)
    word = config.near or ""
    return word, vectors.nearest(word, config.top)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.nearest", description=(__doc__ or "").strip())
        vectors, matrix = load_vectors(config)
        if config.save is not None:
            write_vectors(config.save, vectors.words, matrix, config.format)
            say(
                "saved",
                f"{config.save}: {len(vectors.words):,} vectors of size {matrix.shape[1]}, {config.format} format",
            )
        if config.near is not None or config.analogy is not None:
            query, rows = search(vectors, config)
            say("query", query)
            print_table(["word", "cosine"], rows)


if __name__ == "__main__":
    main()
