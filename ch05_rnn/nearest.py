"""Nearest neighbours and analogies of word vectors.

python -m ch05_rnn.nearest --near paris
python -m ch05_rnn.nearest --analogy man king woman               # man is to king as woman is to ?
python -m ch05_rnn.nearest --near paris --vectors vectors.txt     # any file in word2vec's text format
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ch05_rnn.words import word2vec
from ch05_rnn.words.vectors import Vectors, read_vectors
from common.cli import one_line_errors, parse
from common.config import require
from common.folder import newest_run
from common.progress import print_table, say


@dataclass(frozen=True)
class Config:
    """A query and the vectors to search."""

    near: str | None = None
    """Word whose nearest neighbours are listed."""
    analogy: tuple[str, str, str] | None = None
    """Words A B C of an analogy: A is to B as C is to ?"""
    top: int = 10
    """Number of words to list."""
    vectors: Path | None = None
    """File of vectors in word2vec's text format. Default: that of the newest run of word2vec."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require((self.near is None) != (self.analogy is None), "give either --near or --analogy", "both or none")
        require(self.top > 0, "--top must be at least 1", self.top)


def search(config: Config) -> tuple[str, list[tuple[str, float]]]:
    """Return the query as text, and the words found with their cosine similarities, best first."""
    vectors = Vectors(*read_vectors(config.vectors or newest_run(config.out, word2vec) / "vectors.txt"))
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
        query, rows = search(config)
        say("query", query)
        print_table(["word", "cosine"], rows)


if __name__ == "__main__":
    main()
