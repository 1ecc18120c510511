"""fastText: skip-gram with vectors of character n-grams, from which vectors of unseen words are composed.

    python -m ch05_rnn.train fasttext
    python -m ch05_rnn.train fasttext --data wikitext-2 --minimum-count 5 --subsample 1e-4 --buckets 200000 --epochs 3
    python -m ch05_rnn.nearest --model fasttext --near colder

The hidden vector of a centre word is the mean of its own vector and the vectors of its n-grams (subwords.py); the rest
is as in word2vec (Bojanowski, Grave, Joulin & Mikolov 2017). Lines with a word of `--unseen` are omitted from the
training text. Analogies with these words evaluate vectors that are composed of n-grams only.

Dimensions: V vocabulary size, K buckets, D vector size, B batch.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ch05_rnn.words.contexts import Bags, Examples, keep_probability, windows
from ch05_rnn.words.evaluation import analogy_accuracy, answerable, known_questions, report_vectors, word_tests_of
from ch05_rnn.words.network import NegativeSampling, WordVectors, train_step
from ch05_rnn.words.subwords import Subwords
from ch05_rnn.words.vectors import Vectors
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.text.vocabulary import Vocabulary
from common.data.words.analogies import questions
from common.data.words.lines import Text, load_text
from common.data.words.vector_files import write_vectors
from common.run import Run, load_weights

UNSEEN = ("taller", "coldest", "slower", "loudest", "softer", "strongest")


@dataclass(frozen=True)
class Config:
    """Hyperparameters of fastText."""

    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"] = "planted"
    """Data set: the embedded synthetic corpus with known analogies, or a real text, in lower case."""
    text: str | None = None
    """UTF-8 file to train on instead of a data set."""
    unseen: tuple[str, ...] = default_by("data", planted=UNSEEN, pydoc=(), **{"tiny-shakespeare": (), "wikitext-2": ()})
    """Words whose lines are omitted from the training text. Default: six comparatives and superlatives of the embedded
    corpus; none for other data."""
    epochs: int = 10
    """Number of epochs."""
    embedding_size: int = 64
    """Vector size."""
    shortest: int = 3
    """Number of characters of the shortest n-grams."""
    longest: int = 6
    """Number of characters of the longest n-grams."""
    buckets: int = 20_000
    """Number of vectors that the n-grams share; the default of the authors' program is 2,000,000."""
    window: int = 5
    """Maximum distance of context words; each centre word draws a radius from 1 to this value."""
    negatives: int = 5
    """Negative samples per context word."""
    subsample: float = 1e-3
    """Relative frequency above which words are subsampled; 1 keeps all words."""
    minimum_count: int = 1
    """Minimum count of a word in the training text; rarer words are composed of their n-grams."""
    batch_size: int = 256
    """Batch size, in centre words."""
    learning_rate: float = 0.2
    """Initial learning rate per context word; it decays linearly to zero."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        if self.text is not None and self.unseen is None:
            object.__setattr__(self, "unseen", ())
        fill_defaults(self)
        require_positive(self, "epochs", "embedding_size", "shortest", "longest", "buckets", "window", "negatives")
        require_positive(self, "subsample", "minimum_count", "batch_size", "learning_rate")
        require(self.shortest <= self.longest, "--shortest must be at most --longest", self.shortest)
        require(
            self.text is None or self.data == "planted", "--text takes the place of --data: give one of them", self.data
        )
        require(
            self.run.precision != "bf16", "word vectors are computed in fp32: --precision must be auto or fp32", "bf16"
        )


def train(config: Config, data: Text | None = None) -> dict[str, float]:
    """Train the vectors and return their metrics on the test questions, and on questions with unseen words."""
    data = data or load_text(
        config.data,
        text=config.text,
        minimum_count=config.minimum_count,
        limit=config.run.limit,
        without=config.unseen,
    )
    counts = data.train.tokens.bincount(minlength=len(data.vocabulary))
    require(int((counts > 0).sum()) > 1, "the text must have at least two different words", int((counts > 0).sum()))
    objective, keep = NegativeSampling(counts, config.negatives), keep_probability(counts, config.subsample)
    subwords = make_subwords(data.vocabulary, config)
    draw = partial(windows, data.train.tokens, data.train.line_numbers, keep, config.window)
    first, _ = draw(torch.Generator().manual_seed(config.run.seed))
    require(len(first) > 0, "subsampling leaves no pair of words: raise --subsample, or use a longer text; windows", 0)
    valid_questions, test_questions = known_questions(data.vocabulary)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "fasttext trains in one process", distributed.world_size())
        model = WordVectors(subwords.rows, objective.outputs, config.embedding_size).to(run.device)
        steps = max(1, len(first) // config.batch_size)  # the number of windows varies a little between epochs
        for epoch in run.epochs(config.epochs, steps, model=model):
            centres, contexts = draw(run.generator)
            require(
                len(centres) >= steps, "an epoch draws too few windows: raise --subsample or --batch-size", len(centres)
            )
            batches = torch.randperm(len(centres), generator=run.generator).tensor_split(steps)
            for step, index in enumerate(batches, start=(epoch - 1) * steps):
                # all context words of a centre word are in one batch, so that the mean of its n-grams is computed once
                batch = Examples(subwords.bags.take(centres[index]), contexts.take(index))
                decisions = objective.decisions(batch.targets.elements, run.generator)
                learning_rate = config.learning_rate * (1 - step / (config.epochs * steps))
                loss = train_step(model, batch.to(run.device), decisions.to(run.device), learning_rate)
                run.step(loss, targets=len(batch.targets.elements))
            valid = analogy_accuracy(trained_vectors(model, data.vocabulary, subwords), valid_questions)
            run.log(valid={"accuracy": valid["accuracy"]} if valid else {})
        vectors = trained_vectors(model, data.vocabulary, subwords)
        measures = analogy_accuracy(vectors, test_questions)
        measures |= unseen_accuracy(vectors, config.unseen)
        if data.card.name != "planted":
            measures |= word_tests_of(vectors)
        run.save(model)
        if run.is_main:
            data.vocabulary.save(run.folder / "vocabulary.json")
            write_vectors(run.folder / "vectors.txt", data.vocabulary.symbols, word_matrix(model, subwords))
            report_vectors(run, vectors, measures, test_questions)
        return run.finish(test=measures)


def make_subwords(vocabulary: Vocabulary, config: Config) -> Subwords:
    """Return the rows of the words of a vocabulary and of their n-grams."""
    return Subwords(vocabulary.symbols, config.buckets, config.shortest, config.longest)


def word_matrix(model: WordVectors, subwords: Subwords) -> Tensor:
    """Return the (V, D) vectors of the words of the vocabulary."""
    return model.hidden(subwords.bags.to(model.v.device)).cpu()


def compose(model: WordVectors, subwords: Subwords, word: str) -> Tensor | None:
    """Return the (D,) mean of the vectors of a word's n-grams; None if it has no n-grams."""
    rows = subwords.rows_of(word)
    return model.v[rows].mean(0).cpu() if rows else None


def trained_vectors(model: WordVectors, vocabulary: Vocabulary, subwords: Subwords) -> Vectors:
    """Return the vectors of the words of the vocabulary; other words are composed of n-grams."""
    return Vectors(vocabulary.symbols, word_matrix(model, subwords), partial(compose, model, subwords))


def unseen_accuracy(vectors: Vectors, unseen: tuple[str, ...]) -> dict[str, float]:
    """Return the accuracy on the planted questions with at least one unseen word.

    The composed vectors of the unseen words are added to the others, so that unseen words can also be answers.
    """
    added = {word: vectors.composed(word) for word in unseen if word not in vectors}
    composed = {word: vector for word, vector in added.items() if vector is not None}
    if not composed:
        return {}
    extended = Vectors((*vectors.words, *composed), torch.cat([vectors.directions, torch.stack([*composed.values()])]))
    asked = [q for q in questions() if not {q.a, q.b, q.c, q.answer}.isdisjoint(composed)]
    accuracy = analogy_accuracy(extended, answerable(asked, extended))
    return {f"unseen_{name}": accuracy[name] for name in ("accuracy", "nearest_accuracy") if name in accuracy}


def restore(folder: Path) -> tuple[WordVectors, Vocabulary, Config]:
    """Load trained vectors, their vocabulary and their Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = WordVectors(len(vocabulary) + config.buckets, len(vocabulary), config.embedding_size)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random words of ten n-grams each, for the device benchmark."""
    generator = torch.Generator().manual_seed(config.run.seed)
    objective = NegativeSampling(torch.ones(10_000, dtype=torch.int64), config.negatives)
    rows = torch.randint(10_000 + config.buckets, (config.batch_size * 10,), generator=generator)
    targets = torch.randint(10_000, (config.batch_size * 4,), generator=generator)
    sizes = torch.full((config.batch_size,), 10), torch.full((config.batch_size,), 4)
    examples = Examples(Bags(rows, sizes[0]), Bags(targets, sizes[1])).to(device)
    decisions = objective.decisions(targets, generator).to(device)
    model = WordVectors(10_000 + config.buckets, 10_000, config.embedding_size).to(device)
    return Workload(partial(train_step, model, examples, decisions, 1e-3), items=len(targets), unit="targets")
