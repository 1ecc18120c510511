"""Word vectors: skip-gram with negative sampling, and what can be asked of them.

    python -m ch05_rnn.train word2vec
    python -m ch05_rnn.train word2vec --data wikitext-2 --minimum-count 5 --subsample 1e-4 --epochs 3
    python -m ch05_rnn.nearest --near paris                        # what is like it, by the newest run
    python -m ch05_rnn.nearest --analogy man king woman            # man is to king as woman to what?

The embedded corpus is planted: which words stand together follows from a concept and a form (king: crown, his), so it
is known which analogies there are, and how many of them the vectors get right is a measure.

Dimensions: N tokens, P pairs, B batch, K noise words a pair, V words, D numbers a word, Q questions.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ch05_rnn.words.analogies import known_questions, measure_analogies
from ch05_rnn.words.corpus import Part, Text, load_text
from ch05_rnn.words.skipgram import Noise, SkipGram, keep_probability, loss_of, skip_grams, train_step
from ch05_rnn.words.vectors import Vectors, principal_components, write_vectors
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.text.analogies import FAMILIES, Question
from common.data.text.vocabulary import Vocabulary
from common.progress import print_table
from common.run import Run, load_weights

HELD_OUT_SEED = 0
"""Seed of the pairs and the noise by which the held-out text is measured."""


SHOWN = 8
"""Concepts of a family that are drawn: more names would lie over each other."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the word vectors."""

    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"] = "planted"
    """Which text: the planted corpus, whose analogies are known, or a real one."""
    text: str | None = None
    """A UTF-8 file to learn from instead."""
    epochs: int = 10
    """Passes over the training text."""
    embedding_size: int = 64
    """Numbers of a vector."""
    window: int = 5
    """How far the neighbours of a word may be; each word draws 1 to that many."""
    negatives: int = 5
    """Words of the noise for each neighbour."""
    subsample: float = 1e-3
    """Share of the text above which a word is left out now and then; 1 leaves all in."""
    minimum_count: int = 1
    """How often a word must be in the training text to get a vector."""
    batch_size: int = 512
    """Pairs a step."""
    learning_rate: float = 0.05
    """Step size of gradient descent for each pair, which falls to zero along a line."""
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


def held_out_loss(model: SkipGram, part: Part, noise: Noise, config: Config) -> float:
    """Mean loss of a pair in nats, on the pairs and the noise that every call draws alike, all words kept."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    everything = torch.ones(len(model.v))
    middle, neighbour = skip_grams(part.tokens, part.lines, everything, config.window, generator)
    require(len(middle) > 0, "the held-out text has no two words in a line: take a longer one; pairs", 0)
    drawn = noise.draw((len(middle), config.negatives), generator)
    around = torch.cat([neighbour.unsqueeze(1), drawn], dim=1)
    device = model.v.device
    losses = [
        loss_of(model(its.to(device), those.to(device)))
        for its, those in zip(middle.split(20_000), around.split(20_000), strict=True)
    ]
    return float(torch.cat(losses).mean())


def train(config: Config, data: Text | None = None) -> dict[str, float]:
    """Learn the vectors and return what they are worth on the test questions and the test text."""
    data = data or load_text(config.data, text=config.text, minimum_count=config.minimum_count, limit=config.run.limit)
    counts = data.train.tokens.bincount(minlength=len(data.vocabulary))
    require(int((counts > 0).sum()) > 1, "the text must have at least two different words", int((counts > 0).sum()))
    keep, noise = keep_probability(counts, config.subsample), Noise(counts)
    draw_pairs = partial(skip_grams, data.train.tokens, data.train.lines, keep, config.window)
    first = draw_pairs(torch.Generator().manual_seed(config.run.seed))
    require(len(first[0]) > 0, "too few words stay for a pair: raise --subsample, or take a longer text; pairs", 0)
    valid_questions, test_questions = known_questions(data.vocabulary)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "word2vec learns in one process", distributed.world_size())
        model = SkipGram(len(data.vocabulary), config.embedding_size).to(run.device)
        steps = max(1, len(first[0]) // config.batch_size)  # an epoch's pairs are about as many
        for epoch in run.epochs(config.epochs, steps, model=model):
            middles, neighbours = draw_pairs(run.generator)
            require(
                len(middles) >= steps, "an epoch draws too few pairs: raise --subsample or --batch-size", len(middles)
            )
            order = torch.randperm(len(middles), generator=run.generator).tensor_split(steps)
            for step, index in enumerate(order, start=(epoch - 1) * steps):
                drawn = noise.draw((len(index), config.negatives), run.generator)
                around = torch.cat([neighbours[index].unsqueeze(1), drawn], dim=1).to(run.device)
                size = config.learning_rate * (1 - step / (config.epochs * steps))
                run.step(train_step(model, middles[index].to(run.device), around, size), pairs=len(index))
            found = measure_analogies(vectors_of(model, data.vocabulary), valid_questions)
            accuracy = {"accuracy": found["accuracy"]} if found else {}
            run.log(valid={"loss": held_out_loss(model, data.valid, noise, config), **accuracy})
        vectors = vectors_of(model, data.vocabulary)
        measures = measure_analogies(vectors, test_questions)
        run.save(model)
        if run.is_main:
            report(run, model, data.vocabulary, counts, measures, test_questions)
        return run.finish(test={**measures, "loss": held_out_loss(model, data.test, noise, config)})


def vectors_of(model: SkipGram, vocabulary: Vocabulary) -> Vectors:
    """Take the vectors of words in the middle, as word2vec does."""
    return Vectors(vocabulary.symbols, model.v.cpu())


def report(
    run: Run, model: SkipGram, vocabulary: Vocabulary, counts: Tensor, measures: dict[str, float], asked: list[Question]
) -> None:
    """Write the vectors; print neighbours and the analogies by family; draw pairs of words, and the curves."""
    from common.drawing import plots, text_plots

    vocabulary.save(run.folder / "vocabulary.json")
    seen = [n for n in counts.argsort(descending=True, stable=True).tolist() if counts[n] > 0]
    words, learned = [vocabulary.symbols[n] for n in seen], model.v.cpu()[seen]
    write_vectors(run.folder / "vectors.txt", words, learned)
    vectors = Vectors(words, learned)
    if asked:
        rows = [[name.removesuffix("_accuracy"), f"{100 * value:.2f}"] for name, value in measures.items()]
        rows[0][0], rows[1][0] = "all", "the word nearest to c"
        print_table(["questions", "answered right, %"], rows, title=f"{len(asked):,} analogies of the test")
    if families := planes(vectors):
        run.figure("analogies", text_plots.word_maps(families))
    examples = dict.fromkeys([question.c for question in asked][:6] or words[50:120:10])
    rows = [[word, "  ".join(near for near, _ in vectors.nearest(word, 6))] for word in examples]
    print_table(["word", "nearest"], rows, title="nearest neighbours, by the cosine")
    panels = {"loss": ["train_loss", "valid_loss"]} | ({"analogies": ["valid_accuracy"]} if asked else {})
    run.figure("curves", plots.curves(run.history, panels))


def planes(vectors: Vectors) -> dict[str, tuple[Tensor, list[str], list[tuple[int, int]]]]:
    """Put each family's words into the plane in which they differ most, with links between the forms of a concept."""
    found = {}
    for family in FAMILIES:
        forms = [
            [form if form in vectors else form.capitalize() for form in family.forms(concept)]
            for concept in range(len(family.concepts))
        ]
        known = [row for row in forms if all(form in vectors for form in row)]
        if len(known) < 3:
            continue
        words = [form for row in known[:SHOWN] for form in row]
        width = len(family.sentences)
        links = [(place, place + 1) for place in range(len(words) - 1) if (place + 1) % width]
        found[family.name] = (principal_components(vectors.directions[vectors.numbers(words)]), words, links)
    return found


def restore(folder: Path) -> tuple[SkipGram, Vocabulary, Config]:
    """Rebuild the vectors that a run saved, and their words."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = SkipGram(len(vocabulary), config.embedding_size)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of noise, for the device benchmark."""
    model = SkipGram(10_000, config.embedding_size).to(device)
    middle = torch.randint(10_000, (config.batch_size,), device=device)
    around = torch.randint(10_000, (config.batch_size, 1 + config.negatives), device=device)
    return Workload(partial(train_step, model, middle, around, 1e-3), items=config.batch_size, unit="pairs")
