"""Evaluation of word vectors from counts (a baseline without training), and of pre-trained word vectors.

    python -m ch05_rnn.train evaluate_vectors                                     # counting baseline
    python -m ch05_rnn.train evaluate_vectors --data wikitext-2 --minimum-count 5
    python -m ch05_rnn.train evaluate_vectors --vectors glove-6b-50d              # pre-trained vectors
    python -m ch05_rnn.train evaluate_vectors --vectors file --load vectors.txt   # format of word2vec or GloVe

The baseline computes the positive pointwise mutual information (PPMI) of words from their co-occurrence counts, and
factorises this matrix by a truncated singular value decomposition (Levy & Goldberg 2014).

Dimensions: V vocabulary size, D vector size.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ch05_rnn.words.cooccurrence import count_pairs, factorise, positive_pmi
from ch05_rnn.words.evaluation import analogy_accuracy, known_questions, report_vectors, word_tests_of
from ch05_rnn.words.vectors import Vectors
from common import distributed
from common.config import RunOptions, require, require_positive
from common.data import published
from common.data.source import DataCard, sha256_of, sha256_of_lines
from common.data.words.lines import Text, load_text
from common.data.words.vector_files import GLOVE, VectorFile, load_glove, read_vectors, write_vectors
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Vectors to evaluate."""

    vectors: Literal["ppmi", "glove-6b-50d", "file"] = "ppmi"
    """ppmi computes vectors from the counts of a text, glove-6b-50d loads pre-trained vectors, file reads --load."""
    load: Path | None = None
    """File of vectors in the text format of word2vec or GloVe."""
    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"] = "planted"
    """Data set for ppmi: the embedded synthetic corpus with known analogies, or a real text, in lower case."""
    text: str | None = None
    """UTF-8 file for ppmi instead of a data set."""
    embedding_size: int = 128
    """Vector size of ppmi."""
    window: int = 5
    """Maximum distance of two words that ppmi counts as a pair; a pair at distance d counts 1 / d."""
    minimum_count: int = 1
    """Minimum count of a word for ppmi; rarer words get no vector."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "embedding_size", "window", "minimum_count")
        require(
            (self.load is not None) == (self.vectors == "file"), "use --load together with --vectors file", self.vectors
        )
        require(
            self.text is None or self.data == "planted", "--text takes the place of --data: give one of them", self.data
        )


def train(config: Config, data: Text | None = None) -> dict[str, float]:
    """Compute or load the vectors and return their metrics."""
    if config.vectors == "ppmi":
        limit = config.run.limit
        text = data or load_text(config.data, text=config.text, minimum_count=config.minimum_count, limit=limit)
        card, words = text.card, text.vocabulary.symbols
        valid_questions, test_questions = known_questions(text.vocabulary)
    else:
        found, card = _load(config)
        text, words, valid_questions, test_questions = None, found.words, [], []
    with Run.open(__name__, config, card, arithmetic="fp64" if text else "fp32") as run:
        require(distributed.world_size() == 1, "evaluate_vectors runs in one process", distributed.world_size())
        if text is not None:
            counts = count_pairs(text.train.tokens, text.train.line_numbers, len(words), config.window)
            require(len(counts) > 0, "the text has no line with two words: use a longer text; pairs", len(counts))
            matrix = factorise(positive_pmi(counts, len(words)), len(words), config.embedding_size, run.device)
            write_vectors(run.folder / "vectors.txt", words, matrix)
        else:
            matrix = found.vectors
        vectors = Vectors(words, matrix)
        metrics = analogy_accuracy(vectors, test_questions)
        if text is None or text.card.name != "planted":
            metrics |= word_tests_of(vectors)
        report_vectors(run, vectors, metrics, test_questions)
        return run.finish(valid=analogy_accuracy(vectors, valid_questions), test=metrics)


def _load(config: Config) -> tuple[VectorFile, DataCard]:
    """Load pre-trained vectors, with a limit only the first ones."""
    if config.load is not None:
        found, name, source = read_vectors(config.load, limit=config.run.limit), config.load.name, f"from {config.load}"
    else:
        (found, source), name = load_glove(limit=config.run.limit), GLOVE
    size = found.vectors.shape[1]
    description = f"{len(found.words):,} words, vectors of size {size}, {source}"
    if config.load is not None:
        return found, DataCard(published.own_name(name), False, sha256_of(found.vectors), description)
    contents = {"words": sha256_of_lines(found.words)}
    return found, published.card(name, sha256_of(found.vectors), description, {"words": len(found.words)}, contents)
