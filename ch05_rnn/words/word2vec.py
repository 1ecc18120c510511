"""Word vectors: skip-gram or CBOW, with negative sampling or hierarchical softmax, evaluated on analogies.

    python -m ch05_rnn.train word2vec
    python -m ch05_rnn.train word2vec --model cbow --objective hierarchical
    python -m ch05_rnn.train word2vec --data wikitext-2 --minimum-count 5 --subsample 1e-4 --epochs 3
    python -m ch05_rnn.nearest --near paris                        # nearest neighbours, newest run
    python -m ch05_rnn.nearest --analogy man king woman            # man is to king as woman is to ?

The embedded corpus ("planted") is synthetic: a concept and a form determine which words occur together (king: crown,
his). Its analogies are therefore known, and the accuracy on them measures the quality of the vectors. Vectors of real
text are also evaluated on WordSim-353, SimLex-999 and the Google analogies, if their files are found.

Dimensions: N tokens, C centre words, B batch, V vocabulary size, D vector size.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from ch05_rnn.words.contexts import examples_of, keep_probability, windows
from ch05_rnn.words.evaluation import analogy_accuracy, known_questions, report_vectors, word_tests_of
from ch05_rnn.words.huffman import HierarchicalSoftmax
from ch05_rnn.words.network import NegativeSampling, WordVectors, decision_loss, train_step
from ch05_rnn.words.vectors import Vectors
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.text.vocabulary import Vocabulary
from common.data.words.lines import Part, Text, load_text
from common.data.words.vector_files import write_vectors
from common.run import Run, load_weights

HELD_OUT_SEED = 0
"""Random seed of the windows and negative samples for the validation and test loss."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the word vectors."""

    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"] = "planted"
    """Data set: the embedded synthetic corpus with known analogies, or a real text, in lower case."""
    text: str | None = None
    """UTF-8 file to train on instead of a data set."""
    model: Literal["skipgram", "cbow"] = "skipgram"
    """skipgram predicts context words from the centre word, cbow the centre word from the mean of its context words."""
    objective: Literal["negative", "hierarchical"] = "negative"
    """Output layer: negative sampling, or hierarchical softmax in a Huffman tree."""
    epochs: int = 10
    """Number of epochs."""
    embedding_size: int = 64
    """Vector size."""
    window: int = 5
    """Maximum distance of context words; each centre word draws a radius from 1 to this value."""
    negatives: int = 5
    """Negative samples per predicted word, with the objective negative."""
    subsample: float = 1e-3
    """Relative frequency above which words are subsampled; 1 keeps all words."""
    minimum_count: int = 1
    """Minimum count of a word in the training text; rarer words get no vector."""
    batch_size: int = 256
    """Batch size, in centre words."""
    learning_rate: float = default_by("model", skipgram=0.05, cbow=0.1)
    """Initial learning rate per predicted word; it decays linearly to zero. Default: 0.05, with cbow 0.1."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "epochs", "embedding_size", "window", "negatives", "subsample", "minimum_count")
        require_positive(self, "batch_size", "learning_rate")
        require(
            self.text is None or self.data == "planted", "--text takes the place of --data: give one of them", self.data
        )
        require(
            self.run.precision != "bf16", "word vectors are computed in fp32: --precision must be auto or fp32", "bf16"
        )


Objective = NegativeSampling | HierarchicalSoftmax


def held_out_loss(model: WordVectors, part: Part, objective: Objective, config: Config) -> float:
    """Return the mean loss per target in nats, without subsampling, with the same windows and samples in every call."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    keep_all = torch.ones(len(model.v))
    centres, contexts = windows(part.tokens, part.line_numbers, keep_all, config.window, generator)
    require(len(centres) > 0, "the held-out text has no line with two words: use a longer text; windows", 0)
    examples = examples_of(config.model, centres, contexts)
    losses = []
    for index in torch.arange(len(examples)).split(4_000):
        batch = examples.take(index)
        decisions = objective.decisions(batch.targets.elements, generator).to(model.v.device)
        losses.append(decision_loss(model(batch.to(model.v.device), decisions), decisions))
    return float(torch.cat(losses).mean())


def train(config: Config, data: Text | None = None) -> dict[str, float]:
    """Train the vectors and return their metrics on the test questions and the test text."""
    data = data or load_text(config.data, text=config.text, minimum_count=config.minimum_count, limit=config.run.limit)
    counts = data.train.tokens.bincount(minlength=len(data.vocabulary))
    require(int((counts > 0).sum()) > 1, "the text must have at least two different words", int((counts > 0).sum()))
    hierarchical = config.objective == "hierarchical"
    objective = HierarchicalSoftmax(counts) if hierarchical else NegativeSampling(counts, config.negatives)
    keep = keep_probability(counts, config.subsample)
    draw = partial(windows, data.train.tokens, data.train.line_numbers, keep, config.window)
    first, _ = draw(torch.Generator().manual_seed(config.run.seed))
    require(len(first) > 0, "subsampling leaves no pair of words: raise --subsample, or use a longer text; windows", 0)
    valid_questions, test_questions = known_questions(data.vocabulary)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "word2vec trains in one process", distributed.world_size())
        model = WordVectors(len(data.vocabulary), objective.outputs, config.embedding_size).to(run.device)
        steps = max(1, len(first) // config.batch_size)  # the number of windows varies a little between epochs
        for epoch in run.epochs(config.epochs, steps, model=model):
            examples = examples_of(config.model, *draw(run.generator))
            require(
                len(examples) >= steps,
                "an epoch draws too few windows: raise --subsample or --batch-size",
                len(examples),
            )
            batches = torch.randperm(len(examples), generator=run.generator).tensor_split(steps)
            for step, index in enumerate(batches, start=(epoch - 1) * steps):
                batch = examples.take(index)
                decisions = objective.decisions(batch.targets.elements, run.generator)
                learning_rate = config.learning_rate * (1 - step / (config.epochs * steps))
                loss = train_step(model, batch.to(run.device), decisions.to(run.device), learning_rate)
                run.step(loss, targets=len(batch.targets.elements))
            valid = analogy_accuracy(trained_vectors(model, data.vocabulary), valid_questions)
            accuracy = {"accuracy": valid["accuracy"]} if valid else {}
            run.log(valid={"loss": held_out_loss(model, data.valid, objective, config), **accuracy})
        vectors = trained_vectors(model, data.vocabulary)
        measures = analogy_accuracy(vectors, test_questions)
        if data.card.name != "planted":
            measures |= word_tests_of(vectors)
        run.save(model)
        if run.is_main:
            data.vocabulary.save(run.folder / "vocabulary.json")
            write_vectors(run.folder / "vectors.txt", data.vocabulary.symbols, model.v.cpu())
            report_vectors(run, vectors, measures, test_questions)
        return run.finish(test={**measures, "loss": held_out_loss(model, data.test, objective, config)})


def trained_vectors(model: WordVectors, vocabulary: Vocabulary) -> Vectors:
    """Return the input vectors, which are the result of word2vec."""
    return Vectors(vocabulary.symbols, model.v.cpu())


def restore(folder: Path) -> tuple[WordVectors, Vocabulary, Config]:
    """Load trained vectors, their vocabulary and their Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    outputs = len(vocabulary) - 1 if config.objective == "hierarchical" else len(vocabulary)
    model = WordVectors(len(vocabulary), outputs, config.embedding_size)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random words, for the device benchmark."""
    generator = torch.Generator().manual_seed(config.run.seed)
    words = torch.randint(10_000, (config.batch_size * 8,), generator=generator)
    counts = words.bincount(minlength=10_000) + 1
    hierarchical = config.objective == "hierarchical"
    objective = HierarchicalSoftmax(counts) if hierarchical else NegativeSampling(counts, config.negatives)
    centres, contexts = windows(words, torch.zeros_like(words), torch.ones(10_000), config.window, generator)
    examples = examples_of(config.model, centres, contexts).take(torch.arange(config.batch_size))
    decisions = objective.decisions(examples.targets.elements, generator).to(device)
    model = WordVectors(10_000, objective.outputs, config.embedding_size).to(device)
    step = partial(train_step, model, examples.to(device), decisions, 1e-3)
    return Workload(step, items=len(examples.targets.elements), unit="targets")
