"""The language model: a recurrent network that predicts the next character or the next word of a text.

    python -m ch05_rnn.train language_model                              # characters, one minute
    python -m ch05_rnn.train language_model --budget 180                 # characters, three minutes
    python -m ch05_rnn.train language_model --level word --data pydoc    # words
    python -m ch05_rnn.train language_model --level word --data wikitext-2 --cutoffs 2000 10000    # adaptive softmax
    python -m ch05_rnn.train language_model --text my_novel.txt          # your own text
    python -m ch05_rnn.train language_model --cell gru --by hand --epochs 5    # a number of epochs: reproducible

Dimensions: T steps, B batch, N = T B tokens, V vocabulary size, E embedding size, H hidden units.
"""

import warnings
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ch05_rnn.language import visualise
from ch05_rnn.language.evaluation import evaluate, evaluate_ngrams, generation_speed, window_loss
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.language.sampling import sample_line
from ch05_rnn.recurrence import cells
from ch05_rnn.recurrence.cells import By, CellName, State
from common import distributed
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.text.corpora import Corpus, Level, load_corpus
from common.data.text.vocabulary import Streams, Vocabulary
from common.run import Run, load_weights
from common.schedule import one_cycle_at, out_of_time, progress, set_learning_rate

SAMPLES = 8
"""Maximum number of samples drawn in the figure."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the language model."""

    data: Literal["auto", "tiny-shakespeare", "wikitext-2", "pydoc"] = "auto"
    """Data set; auto takes Tiny Shakespeare if it is on disk or can be downloaded, else the embedded Python help
    texts."""
    text: str | None = None
    """UTF-8 file to train on instead of a data set."""
    level: Level = "char"
    """Tokens: characters or words."""
    minimum_count: int | None = None
    """Minimum count of a token in the training text; rarer tokens become <unknown>. Default: 1 for characters and
    WikiText-2, 2 for other words."""
    vocabulary: int | None = None
    """Maximum vocabulary size; the most frequent tokens are kept. Default: no maximum."""
    cell: CellName = "lstm"
    """Recurrent cell type."""
    by: By = "library"
    """Implementation of the recurrent layers: torch's, this chapter's cells in a loop with autograd, or
    backpropagation through time by hand."""
    embedding_size: int = default_by("level", char=128, word=256)
    """Embedding size. Default: 128 for characters, 256 for words."""
    hidden_size: int = default_by("level", char=512, word=256)
    """Hidden units per layer. Default: 512 for characters, 256 for words."""
    layers: int = 1
    """Number of stacked recurrent layers."""
    dropout: float = default_by("level", char=0.1, word=0.5)
    """Dropout probability before, between and after the recurrent layers. Default: 0.1 for characters, 0.5 for
    words."""
    locked: bool = False
    """Use variational dropout: one dropout mask for all time steps of a batch."""
    tied: bool = False
    """Share the weights of embedding and output layer; the last recurrent layer then has as many units as the
    embedding."""
    cutoffs: tuple[int, ...] = ()
    """Adaptive softmax: numbers of the first words of its clusters, in the order of frequency, such as 2000 10000.
    Default: one softmax over the whole vocabulary."""
    initial: Literal["torch", "orthogonal", "chrono"] = "torch"
    """Initialisation of the recurrent weights. With torch and orthogonal, an LSTM's forget gates have a bias of 1;
    chrono is orthogonal with gate biases for time scales up to --steps."""
    budget: float = 60.0
    """Training time in seconds, without evaluation; the learning-rate schedule follows the clock."""
    epochs: int | None = None
    """Number of epochs instead of a time budget; the schedule follows the steps, so the run is reproducible."""
    batch_size: int = default_by("level", char=64, word=32)
    """Batch size: parallel streams of text. Default: 64 for characters, 32 for words."""
    steps: int = default_by("level", char=32, word=35)
    """Length of truncated backpropagation through time, in tokens. Default: 32 for characters, 35 for words."""
    learning_rate: float = 4e-3
    """Peak learning rate of AdamW (one-cycle schedule)."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    clip: float = 1.0
    """Maximum gradient norm; larger gradients are rescaled."""
    ngram_orders: tuple[int, ...] = default_by("level", char=(5,), word=(2, 4))
    """Orders of the Kneser-Ney n-gram baselines. Default: 5 for characters, 2 and 4 for words."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        positive = "embedding_size hidden_size layers budget epochs batch_size steps learning_rate clip"
        require_positive(self, *positive.split(), "minimum_count", "vocabulary")
        require(0 <= self.dropout < 1, "--dropout must be at least 0 and below 1", self.dropout)
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(all(1 <= n <= 8 for n in self.ngram_orders), "--ngram-orders must be 1 to 8", self.ngram_orders)
        rising = all(a < b for a, b in pairwise((0, *self.cutoffs)))
        require(rising, "--cutoffs must be above 0 and in rising order", self.cutoffs)
        require(
            not (self.tied and self.cutoffs), "--cutoffs cannot be combined with --tied: leave one out", self.cutoffs
        )
        gated = self.cell != "rnn" or self.initial != "chrono"
        require(gated, "--initial chrono needs a cell with gates, gru or lstm", self.cell)
        require(
            self.text is None or self.data == "auto", "--text takes the place of --data: give one of them", self.data
        )


def make_model(vocabulary_size: int, config: Config) -> LanguageModel:
    """Build the network and initialise its recurrent layers."""
    fits = all(cutoff < vocabulary_size for cutoff in config.cutoffs)
    require(fits, f"--cutoffs must be below {vocabulary_size:,}, the size of the vocabulary", config.cutoffs)
    model = LanguageModel(
        vocabulary_size,
        cell=config.cell,
        by=config.by,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        layers=config.layers,
        dropout=config.dropout,
        locked=config.locked,
        tied=config.tied,
        cutoffs=config.cutoffs,
    )
    for layer in model.layers:
        if config.initial != "torch":
            cells.orthogonal_(layer)
        if config.initial == "chrono":
            cells.chrono_(layer, max(3, config.steps))
        elif config.cell == "lstm":
            cells.open_forget_gates_(layer)
    return model


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), all parameters in one fused step."""
    return torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    state: list[State],
    *,
    clip: float = 1.0,
    bf16: bool = False,
) -> tuple[Tensor, list[State]]:
    """Take one gradient step; return the loss, still on the device, and the detached state for the next batch.

    Truncated backpropagation through time: the state goes on into the next batch, the gradient stops at the start of
    this one.
    """
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
        loss, state = model(inputs, state, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), [tuple(tensor.detach() for tensor in layer) for layer in state]


def train(config: Config, data: Corpus | None = None) -> dict[str, float]:
    """Train the language model within the budget and return its test metrics."""
    data = data or load_corpus(
        config.data,
        level=config.level,
        text=config.text,
        limit=config.run.limit,
        minimum_count=config.minimum_count,
        maximum_size=config.vocabulary,
    )
    with Run.open(__name__, config, data.card) as run:
        streams = Streams(
            data.train.tokens,
            batch_size=config.batch_size,
            steps=config.steps,
            device=run.device,
            generator=run.generator,
        )
        model = make_model(len(data.vocabulary), config).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        best = BestWeights(model)
        steps = None if config.epochs is None else config.epochs * len(streams)
        samples: dict[str, str] = {}
        for epoch in run.epochs(config.epochs, len(streams), model=model, optimizer=optimizer, best=best):
            state = model.initial_state(streams.streams // distributed.world_size())
            for step, (inputs, targets) in enumerate(streams, start=(epoch - 1) * len(streams)):
                done = progress(step, steps, run.elapsed(), config.budget)
                set_learning_rate(optimizer, one_cycle_at(done, config.learning_rate))
                loss, state = train_step(parallel, optimizer, inputs, targets, state, clip=config.clip, bf16=run.bf16)
                run.step(loss, **{f"{config.level}s": targets.numel()})
                if out_of_time(config.epochs, run.elapsed(), config.budget):
                    run.end()
                    break
            valid = evaluate(model, data.valid, config.level, bf16=run.bf16)
            best.update(valid["loss"], epoch)
            run.log(valid=valid)
            samples[f"epoch {epoch}"] = sample_line(model, data.vocabulary, config.level, seed=epoch)
            run.add("sample", samples[f"epoch {epoch}"])
        best.restore()
        run.save(model)
        ngram_valid, ngram_test = evaluate_ngrams(data, config.ngram_orders)
        if run.is_main:
            data.vocabulary.save(run.folder / "vocabulary.json")
            report(run, data, model, ngram_valid, samples)
        valid = evaluate(model, data.valid, config.level, bf16=run.bf16)
        test = evaluate(model, data.test, config.level, bf16=run.bf16)
        speed = {f"written_{config.level}s_per_second": generation_speed(model, data.vocabulary)}
        results = {"valid": valid | ngram_valid, "test": test | ngram_test}
        if config.level == "char":  # validation and test part as one text, as others report it
            held_out = evaluate(model, data.held_out, config.level, bf16=run.bf16)
            results["held_out"] = held_out | {"window_loss": window_loss(model, data.held_out, bf16=run.bf16)}
        else:
            results["test"]["unknown_rate"] = data.test.unknown_rate
        return run.finish(run={"best_epoch": best.epoch, **speed}, **results)


def report(run: Run, data: Corpus, model: LanguageModel, baselines: dict[str, float], samples: dict[str, str]) -> None:
    """Draw the curves, samples over training, predictions, embeddings and units that correlate with text features.

    The validation losses of the n-gram baselines are horizontal lines beside the curves.
    """
    from common.drawing import plots, text_plots

    lines = {f"valid_{name}": value for name, value in baselines.items() if name.endswith("loss")}
    losses = ["train_loss", "valid_loss", *lines]
    title = {"char": "loss, nats per character", "word": "loss, nats per word"}[data.level]
    run.figure("curves", plots.curves([row | lines for row in run.history], {title: losses}))
    if samples:
        shown = dict(list(samples.items())[:: -(-len(samples) // SAMPLES)])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # scripts that the font lacks are drawn as boxes
            run.figure("samples", text_plots.text_lines(shown, title="samples during training; / is a line end"))
    visualise.report(run, data, model)


def restore(folder: Path) -> tuple[LanguageModel, Vocabulary, Config]:
    """Load a trained language model, its vocabulary and its Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = make_model(len(vocabulary), config)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random tokens (vocabulary of 66 characters or 10,000 words) for the device benchmark."""
    vocabulary_size = {"char": 66, "word": 10_000}[config.level]
    inputs, targets = torch.randint(vocabulary_size, (2, config.steps, config.batch_size), device=device)
    model = make_model(vocabulary_size, config).to(device)
    optimizer = make_optimizer(model, config)
    state, bf16 = model.initial_state(config.batch_size), config.run.precision == "bf16"
    return Workload(
        lambda: train_step(model, optimizer, inputs, targets, state, clip=config.clip, bf16=bf16),
        items=inputs.numel(),
        unit=f"{config.level}s",
    )
