"""Throughput of word2vec and fastText, compared with gensim, and the quality of their vectors.

    python -m ch05_rnn.train word_throughput
    python -m ch05_rnn.train word_throughput --data wikitext-2 --minimum-count 5 --subsample 1e-4

All variants train on the same text with the same vector size, window, number of negative samples, epochs and threads.
They are interleaved in one process: in each round every variant trains one epoch. Without gensim
(pip install '.[vectors]') only our programs are timed. gensim keeps an occurrence of a frequent word with probability
sqrt(t / f) + t / f, as word2vec.c; our programs with sqrt(t / f), as in the paper.

Dimensions: V vocabulary size, D vector size.
"""

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from ch05_rnn.words.contexts import Bags, Examples, keep_probability, windows
from ch05_rnn.words.evaluation import similarity
from ch05_rnn.words.network import NegativeSampling, WordVectors, train_step
from ch05_rnn.words.subwords import Subwords
from ch05_rnn.words.vectors import Vectors
from common import distributed
from common.benchmark import interleaved
from common.config import RunOptions, require, require_positive
from common.data.source import DataUnavailable
from common.data.words.lines import Text, load_text
from common.data.words.word_tests import PairSet, WordPair, load_pairs
from common.device import Timer
from common.peers import ratios_of
from common.progress import print_table, say
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"] = "pydoc"
    """Data set: Python's documentation (embedded), the synthetic corpus, or a real text, in lower case."""
    text: str | None = None
    """UTF-8 file to train on instead of a data set."""
    rounds: int = 3
    """Number of rounds after a warm-up; in each of them, and in the warm-up, every variant trains one epoch."""
    embedding_size: int = 100
    """Vector size."""
    shortest: int = 3
    """Number of characters of the shortest n-grams of fastText."""
    longest: int = 6
    """Number of characters of the longest n-grams of fastText."""
    buckets: int = 100_000
    """Number of vectors that the n-grams share."""
    window: int = 5
    """Maximum distance of context words."""
    negatives: int = 5
    """Negative samples per context word."""
    subsample: float = 1e-3
    """Relative frequency above which words are subsampled."""
    minimum_count: int = 2
    """Minimum count of a word in the training text."""
    batch_size: int = 256
    """Batch size of our programs, in centre words."""
    learning_rate: float = 0.1
    """Initial learning rate of our skip-gram; all learning rates decay linearly to zero."""
    fasttext_learning_rate: float = 0.2
    """Initial learning rate of our fastText."""
    gensim_learning_rate: float = 0.05
    """Initial learning rate of gensim's skip-gram and fastText."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "embedding_size", "shortest", "longest", "buckets", "window", "negatives", "subsample")
        require_positive(self, "rounds", "minimum_count", "batch_size", "learning_rate", "fasttext_learning_rate")
        require_positive(self, "gensim_learning_rate")
        require(self.shortest <= self.longest, "--shortest must be at most --longest", self.shortest)
        require(
            self.text is None or self.data == "pydoc", "--text takes the place of --data: give one of them", self.data
        )
        require(
            self.run.precision != "bf16", "word vectors are computed in fp32: --precision must be auto or fp32", "bf16"
        )


class Ours:
    """Skip-gram with negative sampling, by this chapter's training step, for words or their n-grams."""

    def __init__(self, data: Text, config: Config, run: Run, *, subwords: bool) -> None:
        self.part, self.config, self.device, self.generator = data.train, config, run.device, run.generator
        counts = data.train.tokens.bincount(minlength=len(data.vocabulary))
        self.keep = keep_probability(counts, config.subsample)
        self.objective = NegativeSampling(counts, config.negatives)
        words = data.vocabulary.symbols
        if subwords:
            self.inputs = Subwords(words, config.buckets, config.shortest, config.longest).bags
            self.rows, self.learning_rate = len(words) + config.buckets, config.fasttext_learning_rate
        else:
            self.inputs = Bags.single(torch.arange(len(words)))
            self.rows, self.learning_rate = len(words), config.learning_rate
        self.model = WordVectors(self.rows, len(words), config.embedding_size).to(run.device)

    def train_epoch(self, first: float, last: float) -> None:
        """Train one epoch, from share `first` of the whole training to share `last`."""
        part, config = self.part, self.config
        centres, contexts = windows(part.tokens, part.line_numbers, self.keep, config.window, self.generator)
        batches = torch.randperm(len(centres), generator=self.generator).split(config.batch_size)
        for number, index in enumerate(batches):
            batch = Examples(self.inputs.take(centres[index]), contexts.take(index))
            decisions = self.objective.decisions(batch.targets.elements, self.generator).to(self.device)
            progress = first + (last - first) * number / len(batches)
            train_step(self.model, batch.to(self.device), decisions, self.learning_rate * (1 - progress))

    def matrix(self) -> Tensor:
        """Return the (V, D) vectors."""
        return self.model.hidden(self.inputs.to(self.device)).cpu()


class Gensim:
    """Skip-gram with negative sampling by gensim, for words or their n-grams."""

    def __init__(self, data: Text, config: Config, *, subwords: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # gensim imports clients of cloud storage, if there are any
            from gensim.models import FastText, Word2Vec  # pyright: ignore[reportMissingImports]  # an extra

        self.words, self.learning_rate = data.vocabulary.symbols, config.gensim_learning_rate
        self.lines = lines_of(data)
        settings: dict[str, Any] = {
            "vector_size": config.embedding_size,
            "window": config.window,
            "min_count": 1,  # the text has only words of the vocabulary
            "sample": config.subsample,
            "sg": 1,
            "negative": config.negatives,
            "seed": config.run.seed,
            "workers": torch.get_num_threads(),
        }
        if subwords:
            settings |= {"min_n": config.shortest, "max_n": config.longest, "bucket": config.buckets}
        self.model = (FastText if subwords else Word2Vec)(**settings)
        self.model.build_vocab(self.lines)

    def train_epoch(self, first: float, last: float) -> None:
        """Train one epoch, from share `first` of the whole training to share `last`."""
        self.model.train(
            self.lines,
            total_examples=len(self.lines),
            epochs=1,
            start_alpha=self.learning_rate * (1 - first),
            end_alpha=self.learning_rate * (1 - last),
        )

    def matrix(self) -> Tensor:
        """Return the (V, D) vectors."""
        return torch.tensor(self.model.wv[list(self.words)])


def lines_of(data: Text) -> list[list[str]]:
    """Return the lines of the training text as words."""
    words = data.vocabulary.decode(data.train.tokens)
    sizes = data.train.line_numbers.unique_consecutive(return_counts=True)[1].tolist()
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [words[end - size : end] for end, size in zip(ends, sizes, strict=True)]


class Training:
    """Train a variant epoch by epoch and measure its throughput."""

    def __init__(self, variant: Ours | Gensim, data: Text, epochs: int, device: torch.device) -> None:
        self.variant, self.words, self.epochs, self.device, self.done = variant, len(data.train), epochs, device, 0

    def words_per_second(self) -> float:
        """Train the next epoch; return the number of words of the text per second."""
        with Timer(self.device) as timer:
            self.variant.train_epoch(self.done / self.epochs, (self.done + 1) / self.epochs)
        self.done += 1
        return self.words / timer.seconds


def train(config: Config, data: Text | None = None) -> dict[str, float]:
    """Train all variants interleaved; return their median throughput, the ratio to gensim's, and the correlations."""
    name = "pydoc" if config.text else config.data
    data = data or load_text(name, text=config.text, minimum_count=config.minimum_count, limit=config.run.limit)
    with Run.open(__name__, config, data.card, packages=("gensim",)) as run:
        require(distributed.world_size() == 1, "word_throughput runs in one process", distributed.world_size())
        variants: dict[str, Ours | Gensim] = {
            "skipgram": Ours(data, config, run, subwords=False),
            "fasttext": Ours(data, config, run, subwords=True),
        }
        if find_spec("gensim") is None:
            say("skipped", "gensim is not installed: pip install '.[vectors]'")
        else:
            variants["gensim_skipgram"] = Gensim(data, config, subwords=False)
            variants["gensim_fasttext"] = Gensim(data, config, subwords=True)
        trainings = {name: Training(variant, data, config.rounds + 1, run.device) for name, variant in variants.items()}
        rates = interleaved(trainings, config.rounds, Training.words_per_second)
        measures: dict[str, float] = {}
        for name, values in rates.items():
            measures[f"{name}_words_per_second"] = statistics.median(values)
            if f"gensim_{name}" in rates:
                measures |= ratios_of(name, values, rates[f"gensim_{name}"], "words_per_second")
        tests = pair_sets()
        for name, variant in variants.items():
            vectors = Vectors(data.vocabulary.symbols, variant.matrix())
            for test, pairs in tests.items():
                measures |= {f"{name}_{test}_{what}": value for what, value in similarity(vectors, pairs).items()}
        report(run, measures, list(variants))
        return run.finish(run=measures)


def pair_sets() -> dict[str, list[WordPair]]:
    """Return the sets of word pairs whose files are found."""
    names: dict[str, PairSet] = {"wordsim": "wordsim-353", "simlex": "simlex-999"}
    found = {}
    for name, pair_set in names.items():
        try:
            found[name] = load_pairs(pair_set)
        except DataUnavailable as error:
            say("skipped", str(error))
    return found


def report(run: Run, measures: dict[str, float], names: Sequence[str]) -> None:
    """Print throughput and correlations, and draw the throughput."""
    from common.drawing import plots

    columns = ["words_per_second", "wordsim_correlation", "simlex_correlation"]
    rows = [[LABELS[name], *(_shown(measures.get(f"{name}_{column}")) for column in columns)] for name in names]
    print_table(["", "words/s", "WordSim-353", "SimLex-999"], rows)
    values = [measures[f"{name}_words_per_second"] for name in names]
    run.figure("rates", plots.bars([LABELS[name] for name in names], values, title="training", label="words/s"))


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value > 1 else f"{value:.3f}"


LABELS = {
    "skipgram": "skip-gram",
    "fasttext": "fastText",
    "gensim_skipgram": "gensim Word2Vec",
    "gensim_fasttext": "gensim FastText",
}
