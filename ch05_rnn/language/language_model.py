"""The language model: a recurrent network or a Transformer that predicts the next character or word of a text.

    python -m ch05_rnn.train language_model                              # characters, one minute
    python -m ch05_rnn.train language_model --budget 180                 # characters, three minutes
    python -m ch05_rnn.train language_model --level word --data pydoc    # words
    python -m ch05_rnn.train language_model --level word --data wikitext-2 --cutoffs 2000 10000    # adaptive softmax
    python -m ch05_rnn.train language_model --network transformer        # a Transformer
    python -m ch05_rnn.train language_model --cell rhn --depth 4 --hidden-size 390 --locked    # recurrent highways
    python -m ch05_rnn.train language_model --text my_novel.txt          # your own text
    python -m ch05_rnn.train language_model --cell gru --by hand --epochs 5    # a number of epochs: reproducible

Dimensions: T steps, B batch, N = T B tokens, V vocabulary size, E embedding size, H hidden units.
"""

import warnings
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ch05_rnn.language import visualise
from ch05_rnn.language.evaluation import evaluate, evaluate_ngrams, generation_speed, window_loss
from ch05_rnn.language.network import AnyCell, LanguageModel, Network
from ch05_rnn.language.optimizer import MuonAdamW
from ch05_rnn.language.sampling import sample_line
from ch05_rnn.language.transformer import PositionName, Transformer
from ch05_rnn.recurrence import cells
from ch05_rnn.recurrence.cells import State
from common import distributed
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, default_by, fill_defaults, flag, read_config, require, require_positive
from common.data.text.corpora import Corpus, Level, load_corpus
from common.data.text.vocabulary import Pieces, Streams, Vocabulary
from common.progress import say
from common.run import Run, load_weights
from common.schedule import one_cycle_at, out_of_time, progress, set_learning_rate, trapezoid_at

SAMPLES = 8
"""Maximum number of samples drawn in the figure."""

RECURRENT_ONLY = ("cell", "depth", "locked", "tied", "cutoffs", "initial")
TRANSFORMER_ONLY = ("heads", "positions", "segments")
"""Settings that only one kind of network has."""


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
    network: Literal["recurrent", "transformer"] = "recurrent"
    """Network: recurrent layers or Transformer blocks."""
    cell: AnyCell = "lstm"
    """Recurrent cell type: rnn, gru, lstm, or rhn for a recurrent highway network."""
    depth: int = 1
    """Highway layers per time step of a recurrent highway network."""
    by: Literal["hand", "loop", "library"] = default_by(
        "cell", rnn="library", gru="library", lstm="library", rhn="loop"
    )
    """Implementation of the recurrent layers: torch's, this chapter's cells in a loop with autograd, or
    backpropagation through time by hand. In a Transformer, of attention and norms: torch's, or by hand. Default:
    torch's; a loop for rhn, which has no other."""
    embedding_size: int = default_by("network", recurrent=default_by("level", char=128, word=256), transformer=192)
    """Embedding size; in a Transformer, the width of all blocks. Default: 128 for characters, 256 for words, 192 for a
    Transformer."""
    hidden_size: int = default_by("network", recurrent=default_by("level", char=512, word=256), transformer=768)
    """Hidden units per recurrent layer or feed-forward network. Default: 512 for characters, 256 for words, 768 for a
    Transformer."""
    layers: int = default_by("network", recurrent=1, transformer=4)
    """Number of stacked recurrent layers or Transformer blocks. Default: 1 recurrent layer, 4 blocks."""
    heads: int = 4
    """Attention heads of a Transformer."""
    positions: PositionName = "rotary"
    """How a Transformer receives the positions of tokens: rotary, sinusoidal, or not at all."""
    dropout: float = default_by("level", char=default_by("network", recurrent=0.1, transformer=0.0), word=0.5)
    """Dropout probability: before, between and after recurrent layers, or after the embedding and every layer of a
    Transformer. Default: 0.1 for characters, 0 for characters in a Transformer, 0.5 for words."""
    locked: bool = False
    """Use variational dropout: one dropout mask for all time steps of a batch, in a recurrent highway network also for
    the recurrent connections."""
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
    batch_size: int = default_by("network", recurrent=default_by("level", char=64, word=32), transformer=24)
    """Batch size: streams or pieces of text that are read in parallel. Default: 64 for characters, 32 for words, 24 for
    a Transformer."""
    steps: int = default_by("network", recurrent=default_by("level", char=32, word=35), transformer=128)
    """Length of truncated backpropagation through time, in tokens; in a Transformer also the context, the number of
    tokens that a layer attends to. Default: 32 for characters, 35 for words, 128 for a Transformer."""
    segments: int = 2
    """Transformers are trained on shuffled pieces of this number of segments of --steps tokens. A piece starts with an
    empty context; keys and values are carried from segment to segment."""
    learning_rate: float = default_by("network", recurrent=4e-3, transformer=0.03)
    """Peak learning rate of AdamW (one-cycle schedule). For a Transformer that of Muon (5 % warm-up, linear decay over
    the last 60 %); AdamW's is a fifth of it. Default: 0.004, 0.03 for a Transformer."""
    weight_decay: float = default_by("network", recurrent=0.01, transformer=0.1)
    """Weight decay of AdamW, or of Muon. Default: 0.01, 0.1 for a Transformer."""
    clip: float = 1.0
    """Maximum gradient norm; larger gradients are rescaled."""
    ngram_orders: tuple[int, ...] = default_by("level", char=(5,), word=(2, 4))
    """Orders of the Kneser-Ney n-gram baselines. Default: 5 for characters, 2 and 4 for words."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        positive = (
            "embedding_size hidden_size layers depth heads budget epochs batch_size steps segments learning_rate clip"
        )
        require_positive(self, *positive.split(), "minimum_count", "vocabulary")
        require(0 <= self.dropout < 1, "--dropout must be at least 0 and below 1", self.dropout)
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(all(1 <= n <= 8 for n in self.ngram_orders), "--ngram-orders must be 1 to 8", self.ngram_orders)
        self._check_network()
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

    def _check_network(self) -> None:
        """Refuse settings that the chosen network or cell does not have."""
        for name in RECURRENT_ONLY if self.network == "transformer" else TRANSFORMER_ONLY:
            value = getattr(self, name)
            rule = f"{flag(name)} does not apply to --network {self.network}: leave it out"
            require(value == getattr(Config, name), rule, value)
        if self.network == "transformer":
            require(self.by != "loop", "--by must be hand or library with --network transformer", self.by)
            fits = self.embedding_size % (2 * self.heads) == 0
            require(fits, f"--embedding-size must be a multiple of 2 x --heads = {2 * self.heads}", self.embedding_size)
        if self.cell == "rhn":
            require(self.by == "loop", "--cell rhn has no other implementation than --by loop", self.by)
            require(self.initial == "torch", "--initial does not apply to --cell rhn: leave it out", self.initial)
        else:
            require(self.depth == 1, "--depth needs a recurrent highway network, --cell rhn", self.depth)


def make_model(vocabulary_size: int, config: Config) -> Network:
    """Build the network."""
    return (make_transformer if config.network == "transformer" else make_recurrent)(vocabulary_size, config)


def make_transformer(vocabulary_size: int, config: Config) -> Transformer:
    """Build a Transformer."""
    return Transformer(
        vocabulary_size,
        width=config.embedding_size,
        hidden_size=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        context=config.steps,
        positions=config.positions,
        dropout=config.dropout,
        by_hand=config.by == "hand",
    )


def make_recurrent(vocabulary_size: int, config: Config) -> LanguageModel:
    """Build a recurrent network and initialise its layers."""
    fits = all(cutoff < vocabulary_size for cutoff in config.cutoffs)
    require(fits, f"--cutoffs must be below {vocabulary_size:,}, the size of the vocabulary", config.cutoffs)
    model = LanguageModel(
        vocabulary_size,
        cell=config.cell,
        depth=config.depth,
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


def make_batches(tokens: Tensor, config: Config, generator: torch.Generator, device: torch.device) -> Streams | Pieces:
    """Read the text in order for a recurrent network, or shuffled pieces of it for a Transformer."""
    kind = partial(Pieces, segments=config.segments) if config.network == "transformer" else Streams
    return kind(tokens, batch_size=config.batch_size, steps=config.steps, generator=generator, device=device)


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), all parameters in one fused step; Muon and AdamW for a Transformer."""
    if isinstance(model, Transformer):
        return MuonAdamW(model, config.learning_rate, config.weight_decay)
    return torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )


def learning_rate_at(done: float, config: Config) -> float:
    """Return the learning rate at a share of the training, 0 to 1."""
    return (trapezoid_at if config.network == "transformer" else one_cycle_at)(done, config.learning_rate)


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
        batches = make_batches(data.train.tokens, config, run.generator, run.device)
        model = make_model(len(data.vocabulary), config).to(run.device)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        say("model", f"{config.cell if config.network == 'recurrent' else config.network}, {parameters:,} parameters")
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        best = BestWeights(model)
        steps = None if config.epochs is None else config.epochs * len(batches)
        samples: dict[str, str] = {}
        parts = {"model": model, "optimizer": optimizer, "best": best}
        for epoch in run.epochs(config.epochs, len(batches), budget=config.budget, **parts):
            for step, (inputs, targets) in enumerate(batches, start=(epoch - 1) * len(batches)):
                if step % batches.segments == 0:  # the text or the pieces begin here
                    state = model.initial_state(inputs.shape[1])
                done = progress(step, steps, run.elapsed(), config.budget)
                set_learning_rate(optimizer, learning_rate_at(done, config))
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
        if config.network == "transformer":
            uncached = generation_speed(model, data.vocabulary, 200, cached=False)
            speed[f"uncached_written_{config.level}s_per_second"] = uncached
        results = {"valid": valid | ngram_valid, "test": test | ngram_test}
        if config.level == "char":  # validation and test part as one text, as others report it
            held_out = evaluate(model, data.held_out, config.level, bf16=run.bf16)
            results["held_out"] = held_out | {"window_loss": window_loss(model, data.held_out, bf16=run.bf16)}
        else:
            results["test"]["unknown_rate"] = data.test.unknown_rate
        return run.finish(run={"best_epoch": best.epoch, "parameters": parameters, **speed}, **results)


def report(run: Run, data: Corpus, model: Network, baselines: dict[str, float], samples: dict[str, str]) -> None:
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


def restore(folder: Path) -> tuple[Network, Vocabulary, Config]:
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
