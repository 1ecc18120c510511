"""Ask word vectors: what is like a word, and what is to a third word as a second is to a first.

python -m ch05_rnn.nearest --near paris
python -m ch05_rnn.nearest --analogy man king woman
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
    """What is asked, and of which vectors."""

    near: str | None = None
    """A word, whose nearest neighbours are wanted."""
    analogy: tuple[str, str, str] | None = None
    """Three words: as the first is to the second, so is the third to what?"""
    top: int = 10
    """How many words are wanted."""
    vectors: Path | None = None
    """A file of vectors; by default that of the newest run of word2vec."""
    out: Path = Path("runs")
    """Where runs are looked for."""

    def __post_init__(self) -> None:
        require((self.near is None) != (self.analogy is None), "ask with either --near or --analogy", "both or none")
        require(self.top > 0, "--top must be at least 1", self.top)


def ask(config: Config) -> list[tuple[str, float]]:
    """Answer with words and their cosines, the best first."""
    vectors = Vectors(*read_vectors(config.vectors or newest_run(config.out, word2vec) / "vectors.txt"))
    if config.analogy is not None:
        return vectors.analogy(*config.analogy, count=config.top)
    assert config.near is not None
    return vectors.nearest(config.near, config.top)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and print the answers."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.nearest", description=(__doc__ or "").strip())
        found = ask(config)
        say("asked", config.near or "{} is to {} as {} to what?".format(*config.analogy or ()))
        print_table(["word", "cosine"], found)


if __name__ == "__main__":
    main()
