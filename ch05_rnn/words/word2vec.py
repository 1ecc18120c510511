"""Word vectors: skip-gram with negative sampling, evaluated on analogies.

    python -m ch05_rnn.train word2vec
    python -m ch05_rnn.train word2vec --data wikitext-2 --minimum-count 5 --subsample 1e-4 --epochs 3
    python -m ch05_rnn.nearest --near paris                        # nearest neighbours, newest run
    python -m ch05_rnn.nearest --analogy man king woman            # man is to king as woman is to ?

The embedded corpus is synthetic ("planted"): a concept and a form determine which words occur together (king: crown,
his). The valid analogies are therefore known, and the accuracy on them measures the vectors.

Dimensions: N tokens, P pairs, B batch, K negative samples per pair, V vocabulary size, D vector size, Q questions.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ch05_rnn.words.analogies import analogy_accuracy, known_questions
from ch05_rnn.words.corpus import Part, Text, load_text
from ch05_rnn.words.skipgram import (
    NoiseSampler,
    SkipGram,
    keep_probability,
    negative_sampling_loss,
    skip_grams,
    train_step,
)
from ch05_rnn.words.vectors import Vectors, principal_components, write_vectors
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.text.analogies import FAMILIES, Question
from common.data.text.vocabulary import Vocabulary
from common.progress import print_table
from common.run import Run, load_weights

HELD_OUT_SEED = 0
"""Random seed of the pairs and negative samples for the validation and test loss."""

SHOWN = 8
"""Number of concepts per family in the figure; more labels would overlap."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the word vectors."""

    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"] = "planted"
    """Data set: the embedded synthetic corpus with known analogies, or a real text."""
    text: str | None = None
    """UTF-8 file to train on instead of a data set."""
    epochs: int = 10
    """Number of epochs."""
    embedding_size: int = 64
    """Vector size."""
    window: int = 5
    """Maximum distance of context words; each centre word draws a radius from 1 to this value."""
    negatives: int = 5
    """Negative samples per context word."""
    subsample: float = 1e-3
    """Relative frequency above which words are subsampled; 1 keeps all words."""
    minimum_count: int = 1
    """Minimum count of a word in the training text; rarer words get no vector."""
    batch_size: int = 512
    """Batch size, in pairs."""
    learning_rate: float = 0.05
    """Initial learning rate per pair; it decays linearly to zero."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "embedding_size", "window", "negatives", "subsample", "minimum_count")
        require_positive(self, "batch_size", "learning_rate")
        require(
            self.text is None or self.data == "planted", "--text takes the place of --data: give one of them", self.data
        )
        require(
            self.run.precision != "bf16", "word vectors are computed in fp32: --precision must be auto or fp32", "bf16"
        )


def held_out_loss(model: SkipGram, part: Part, noise: NoiseSampler, config: Config) -> float:
    """Return the mean loss per pair in nats, without subsampling; every call draws the same pairs and samples."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    keep_all = torch.ones(len(model.v))
    centre, positive = skip_grams(part.tokens, part.line_numbers, keep_all, config.window, generator)
    require(len(centre) > 0, "the held-out text has no two words in a line: take a longer one; pairs", 0)
    negative = noise.draw((len(centre), config.negatives), generator)
    context = torch.cat([positive.unsqueeze(1), negative], dim=1)
    device = model.v.device
    losses = [
        negative_sampling_loss(model(centres.to(device), contexts.to(device)))
        for centres, contexts in zip(centre.split(20_000), context.split(20_000), strict=True)
    ]
    return float(torch.cat(losses).mean())


def train(config: Config, data: Text | None = None) -> dict[str, float]:
    """Train the vectors and return their metrics on the test questions and the test text."""
    data = data or load_text(config.data, text=config.text, minimum_count=config.minimum_count, limit=config.run.limit)
    counts = data.train.tokens.bincount(minlength=len(data.vocabulary))
    require(int((counts > 0).sum()) > 1, "the text must have at least two different words", int((counts > 0).sum()))
    keep, noise = keep_probability(counts, config.subsample), NoiseSampler(counts)
    draw_pairs = partial(skip_grams, data.train.tokens, data.train.line_numbers, keep, config.window)
    first = draw_pairs(torch.Generator().manual_seed(config.run.seed))
    require(len(first[0]) > 0, "too few words stay for a pair: raise --subsample, or take a longer text; pairs", 0)
    valid_questions, test_questions = known_questions(data.vocabulary)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "word2vec learns in one process", distributed.world_size())
        model = SkipGram(len(data.vocabulary), config.embedding_size).to(run.device)
        steps = max(1, len(first[0]) // config.batch_size)  # the number of pairs per epoch varies a little
        for epoch in run.epochs(config.epochs, steps, model=model):
            centres, positives = draw_pairs(run.generator)
            require(
                len(centres) >= steps, "an epoch draws too few pairs: raise --subsample or --batch-size", len(centres)
            )
            batches = torch.randperm(len(centres), generator=run.generator).tensor_split(steps)
            for step, index in enumerate(batches, start=(epoch - 1) * steps):
                negatives = noise.draw((len(index), config.negatives), run.generator)
                context = torch.cat([positives[index].unsqueeze(1), negatives], dim=1).to(run.device)
                learning_rate = config.learning_rate * (1 - step / (config.epochs * steps))
                run.step(train_step(model, centres[index].to(run.device), context, learning_rate), pairs=len(index))
            valid = analogy_accuracy(trained_vectors(model, data.vocabulary), valid_questions)
            accuracy = {"accuracy": valid["accuracy"]} if valid else {}
            run.log(valid={"loss": held_out_loss(model, data.valid, noise, config), **accuracy})
        measures = analogy_accuracy(trained_vectors(model, data.vocabulary), test_questions)
        run.save(model)
        if run.is_main:
            report(run, model, data.vocabulary, counts, measures, test_questions)
        return run.finish(test={**measures, "loss": held_out_loss(model, data.test, noise, config)})


def trained_vectors(model: SkipGram, vocabulary: Vocabulary) -> Vectors:
    """Return the centre vectors, as word2vec does."""
    return Vectors(vocabulary.symbols, model.v.cpu())


def report(
    run: Run,
    model: SkipGram,
    vocabulary: Vocabulary,
    counts: Tensor,
    measures: dict[str, float],
    analogies: list[Question],
) -> None:
    """Write the vectors; print the analogy accuracies and nearest neighbours; draw the word maps and the curves."""
    from common.drawing import plots, text_plots

    vocabulary.save(run.folder / "vocabulary.json")
    by_frequency = [n for n in counts.argsort(descending=True, stable=True).tolist() if counts[n] > 0]
    words, v = [vocabulary.symbols[n] for n in by_frequency], model.v.cpu()[by_frequency]
    write_vectors(run.folder / "vectors.txt", words, v)
    vectors = Vectors(words, v)
    if analogies:
        rows = [[name.removesuffix("_accuracy"), f"{100 * value:.2f}"] for name, value in measures.items()]
        rows[0][0], rows[1][0] = "all", "baseline: nearest word to c"
        print_table(["questions", "accuracy, %"], rows, title=f"{len(analogies):,} test analogies")
    if families := word_maps(vectors):
        run.figure("analogies", text_plots.word_maps(families))
    examples = dict.fromkeys([question.c for question in analogies][:6] or words[50:120:10])
    rows = [[word, "  ".join(near for near, _ in vectors.nearest(word, 6))] for word in examples]
    print_table(["word", "nearest"], rows, title="nearest neighbours by cosine similarity")
    panels = {"loss": ["train_loss", "valid_loss"]} | ({"analogies": ["valid_accuracy"]} if analogies else {})
    run.figure("curves", plots.curves(run.history, panels))


def word_maps(vectors: Vectors) -> dict[str, tuple[Tensor, list[str], list[tuple[int, int]]]]:
    """Project two forms of each concept on two principal components, by family, with a line between the two forms."""
    maps = {}
    for family in FAMILIES:
        forms = [
            [form if form in vectors else form.capitalize() for form in family.forms(concept)[:2]]
            for concept in range(len(family.concepts))
        ]
        known = [row for row in forms if all(form in vectors for form in row)]
        if len(known) < 3:
            continue
        words = [form for row in known[:SHOWN] for form in row]
        links = [(place, place + 1) for place in range(0, len(words), 2)]
        maps[family.name] = (principal_components(vectors.directions[vectors.indices(words)]), words, links)
    return maps


def restore(folder: Path) -> tuple[SkipGram, Vocabulary, Config]:
    """Load trained vectors, their vocabulary and their Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = SkipGram(len(vocabulary), config.embedding_size)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random words, for the device benchmark."""
    model = SkipGram(10_000, config.embedding_size).to(device)
    centre = torch.randint(10_000, (config.batch_size,), device=device)
    context = torch.randint(10_000, (config.batch_size, 1 + config.negatives), device=device)
    return Workload(partial(train_step, model, centre, context, 1e-3), items=config.batch_size, unit="pairs")
