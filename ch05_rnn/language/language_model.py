"""The language model: a recurrent network that predicts the next character, or the next word.

    python -m ch05_rnn.train language_model                              # a minute of characters
    python -m ch05_rnn.train language_model --budget 180                 # three
    python -m ch05_rnn.train language_model --level word --data pydoc    # words
    python -m ch05_rnn.train language_model --text my_novel.txt          # your own
    python -m ch05_rnn.train language_model --cell gru --by hand --epochs 5    # by passes: the run can be repeated

Dimensions: T steps, B batch, N = T B tokens, V symbols, E embedding, H hidden units.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ch05_rnn.language import visualise as inside
from ch05_rnn.language.evaluation import count, evaluate, in_counts, writing_speed
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.language.sampling import continuation, first_of, pieces
from ch05_rnn.recurrence import cells
from ch05_rnn.recurrence.cells import By, CellName, State
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.text.corpora import Corpus, Level, load_corpus
from common.data.text.vocabulary import Streams, Vocabulary
from common.run import Run, load_weights
from common.schedule import one_cycle_at, out_of_time, progress, set_learning_rate

USUAL: dict[str, dict[str, Any]] = {
    "char": {
        "hidden_size": 512,
        "embedding_size": 128,
        "dropout": 0.1,
        "batch_size": 64,
        "steps": 32,
        "learning_rate": 4e-3,
        "ngram_orders": (5,),
    },
    "word": {
        "hidden_size": 256,
        "embedding_size": 256,
        "dropout": 0.5,
        "batch_size": 32,
        "steps": 35,
        "learning_rate": 4e-3,
        "ngram_orders": (2, 4),
    },
}
"""What suits characters and what suits words, where the command line does not say otherwise."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the language model."""

    data: Literal["auto", "tiny-shakespeare", "wikitext-2", "pydoc"] = "auto"
    """Which text; auto takes Tiny Shakespeare where it is on disk or can be downloaded, else Python's help texts."""
    text: str | None = None
    """A UTF-8 file to learn from instead."""
    level: Level = "char"
    """Predict characters or words."""
    minimum_count: int | None = None
    """How often a token must occur to be known; by default every character is, and a word from its second time on."""
    vocabulary: int | None = None
    """Most symbols that are known, the most frequent first."""
    cell: CellName = "lstm"
    """What carries the past."""
    by: By = "library"
    """Recurrent layers by torch, by this chapter's cells step by step, or with gradients through time by hand."""
    embedding_size: int | None = None
    """Numbers a symbol becomes; by default 128 for characters, 256 for words."""
    hidden_size: int | None = None
    """Units a layer; by default 512 for characters, 256 for words."""
    layers: int = 1
    """Recurrent layers on top of each other."""
    dropout: float | None = None
    """Share of the numbers between layers that is dropped; by default 0.1 for characters, 0.5 for words."""
    locked: bool = False
    """Drop the same numbers at all steps of a batch (variational dropout)."""
    tied: bool = False
    """Let the output layer use the embedding's weights; the last layer then has as many units as an embedding."""
    initial: Literal["torch", "orthogonal", "chrono"] = "torch"
    """How the recurrent weights begin, an LSTM's with its forget gates open; chrono is orthogonal with memories of all
    lengths up to --steps."""
    budget: float = 60.0
    """Seconds of training, evaluation apart. The schedule follows the clock."""
    epochs: int | None = None
    """Passes over the training part instead: the schedule follows the steps, and the run can be repeated."""
    batch_size: int | None = None
    """Streams that are read side by side; by default 64 for characters, 32 for words."""
    steps: int | None = None
    """Tokens that gradients go back through; by default 32 for characters, 35 for words."""
    learning_rate: float | None = None
    """Peak step size of AdamW; by default 4e-3."""
    weight_decay: float = 0.01
    """Share of each weight that decays a step, times the step size."""
    clip: float = 1.0
    """Longest gradient; a longer one keeps its direction."""
    ngram_orders: tuple[int, ...] | None = None
    """Orders of the Kneser-Ney models to beat; by default 5 for characters, 2 and 4 for words."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        positive = "embedding_size hidden_size layers budget epochs batch_size steps learning_rate clip"
        require_positive(self, *positive.split(), "minimum_count", "vocabulary")
        require(0 <= (self.dropout or 0) < 1, "--dropout must be at least 0 and below 1", self.dropout)
        require(0 <= self.weight_decay < 1, "--weight-decay must be at least 0 and below 1", self.weight_decay)
        require(all(1 <= n <= 8 for n in self.ngram_orders or ()), "--ngram-orders must be 1 to 8", self.ngram_orders)
        gated = self.cell != "rnn" or self.initial != "chrono"
        require(gated, "--initial chrono needs a cell with gates, gru or lstm", self.cell)
        require(
            self.text is None or self.data == "auto", "--text takes the place of --data: give one of them", self.data
        )


def settled(config: Config) -> Config:
    """Fill in what suits the level, where the Config does not say."""
    usual = USUAL[config.level]
    return replace(config, **{name: value for name, value in usual.items() if getattr(config, name) is None})


def make_model(symbols: int, config: Config) -> LanguageModel:
    """Build the network that the Config asks for."""
    asked = settled(config)
    assert asked.embedding_size and asked.hidden_size and asked.dropout is not None
    model = LanguageModel(
        symbols,
        cell=asked.cell,
        by=asked.by,
        embedding_size=asked.embedding_size,
        hidden_size=asked.hidden_size,
        layers=asked.layers,
        dropout=asked.dropout,
        locked=asked.locked,
        tied=asked.tied,
    )
    for layer in model.layers:
        if asked.initial != "torch":
            cells.orthogonal_(layer)
        if asked.initial == "chrono":
            cells.chrono_(layer, max(3, asked.steps or 0))
        elif asked.cell == "lstm":
            cells.forget_(layer)
    return model


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), all parameters in one fused step."""
    rate = settled(config).learning_rate
    assert rate
    return torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True)


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
    """Take one gradient step; return the loss, still on the device, and the state, cut off from its past.

    Gradients go back to the beginning of the batch and no further: truncated backpropagation through time.
    """
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
        loss, state = model(inputs, state, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), [tuple(part.detach() for part in layer) for layer in state]


class Kept:
    """The weights of the epoch that was best on the validation part; part of the checkpoint."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.loss, self.epoch = model, math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, loss: float, epoch: int) -> None:
        """Keep the weights as they are now, if they are better than those kept."""
        if loss < self.loss:
            self.loss, self.epoch = loss, epoch
            self.weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def put_back(self) -> None:
        """Give the model the weights that were best."""
        self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Give what is kept."""
        return {"loss": self.loss, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what an interrupted run kept."""
        self.loss, self.epoch, self.weights = state["loss"], state["epoch"], state["weights"]


def sample(model: LanguageModel, vocabulary: Vocabulary, level: Level, *, seed: int) -> str:
    """Let the model write a line or two, from the beginning of a line."""
    generator = torch.Generator().manual_seed(seed)
    numbers = continuation(model, vocabulary, [first_of(vocabulary)], generator=generator, temperature=0.8)
    tokens = vocabulary.decode(islice(numbers, {"char": 100, "word": 25}[level]))
    return "".join(pieces(tokens, level))


def one_line(text: str) -> str:
    """Write a text in one line, ends of lines as slashes."""
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())


def train(config: Config, data: Corpus | None = None) -> dict[str, float]:
    """Fit the language model within the budget and return its test metrics."""
    asked = settled(config)
    data = data or load_corpus(
        config.data,
        level=config.level,
        text=config.text,
        limit=config.run.limit,
        minimum_count=config.minimum_count,
        maximum_size=config.vocabulary,
    )
    with Run.open(__name__, config, data.card) as run:
        assert asked.batch_size and asked.steps and asked.learning_rate
        streams = Streams(
            data.train.tokens,
            batch_size=asked.batch_size,
            steps=asked.steps,
            device=run.device,
            generator=run.generator,
        )
        model = make_model(len(data.vocabulary), config).to(run.device)
        parallel, optimizer, kept = distributed.wrap(model), make_optimizer(model, config), Kept(model)
        steps = config.epochs and config.epochs * len(streams)
        for epoch in run.epochs(config.epochs, len(streams), model=model, optimizer=optimizer, kept=kept):
            state = None
            for step, (inputs, targets) in enumerate(streams, start=(epoch - 1) * len(streams)):
                done = progress(step, steps, run.elapsed(), config.budget)
                set_learning_rate(optimizer, one_cycle_at(done, asked.learning_rate))
                state = state or model.initial_state(inputs.shape[1])
                loss, state = train_step(parallel, optimizer, inputs, targets, state, clip=config.clip, bf16=run.bf16)
                run.step(loss, **{f"{config.level}s": targets.numel()})
                if out_of_time(config.epochs, run.elapsed(), config.budget):
                    run.end()
                    break
            valid = evaluate(model, data.valid, config.level, bf16=run.bf16)
            kept.offer(valid["loss"], epoch)
            run.log(valid=valid)
            run.add("writes", one_line(sample(model, data.vocabulary, config.level, seed=epoch)))
        kept.put_back()
        run.save(model)
        if run.is_main:
            data.vocabulary.save(run.folder / "vocabulary.json")
            report(run, data, model)
        valid = evaluate(model, data.valid, config.level, bf16=run.bf16)
        test = evaluate(model, data.test, config.level, bf16=run.bf16)
        for order in asked.ngram_orders or ():
            counted = count(data, order)
            valid, test = valid | in_counts(counted, data.valid), test | in_counts(counted, data.test)
        speed = {f"written_{config.level}s_per_second": writing_speed(model, data.vocabulary)}
        return run.finish(run={"best_epoch": kept.epoch, **speed}, valid=valid, test=test)


def report(run: Run, data: Corpus, model: LanguageModel) -> None:
    """Draw what a person looks at: curves, predictions, embeddings, what single units follow."""
    from common.drawing import plots

    run.figure("curves", plots.curves(run.history, {"nats a token": ["train_loss", "valid_loss"]}))
    inside.draw(run, data, model)


def restore(folder: Path) -> tuple[LanguageModel, Vocabulary, Config]:
    """Rebuild the language model that a run saved."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = make_model(len(vocabulary), config)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on random tokens of a vocabulary of 66, or of 10,000 words, for the device benchmark."""
    asked = settled(config)
    assert asked.batch_size and asked.steps
    symbols = {"char": 66, "word": 10_000}[config.level]
    inputs, targets = torch.randint(symbols, (2, asked.steps, asked.batch_size), device=device)
    model = make_model(symbols, config).to(device)
    optimizer = make_optimizer(model, config)
    state, bf16 = model.initial_state(asked.batch_size), config.run.precision == "bf16"
    return Workload(
        lambda: train_step(model, optimizer, inputs, targets, state, clip=config.clip, bf16=bf16),
        items=inputs.numel(),
        unit=f"{config.level}s",
    )
