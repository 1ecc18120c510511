"""What a recurrent step costs: an LSTM written in four ways, and an output layer of 10,000 words in two.

    python -m ch05_rnn.train throughput
    python -m ch05_rnn.train throughput --hidden-size 512 --batch-size 128 --steps 64

Every way does whole training steps of the language model, forward, backward and AdamW, by turns in one process. The
text is random, which costs the same.

Dimensions: T steps, B batch, V symbols, H hidden units.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.language import language_model
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.recurrence.cells import By, State, forget_
from common import distributed
from common.benchmark import by_turns, median_ratio, rate
from common.config import RunOptions, require, require_positive
from common.device import has_bf16_kernels
from common.progress import say
from common.run import Run

CHARACTERS = 66
"""Symbols where the recurrent layer is compared: so few that the output layer costs next to nothing."""


@dataclass(frozen=True)
class Config:
    """What is compared, and for how long."""

    hidden_size: int = 256
    """Hidden units, and numbers an embedding has."""
    batch_size: int = 32
    """Streams read side by side."""
    steps: int = 35
    """Tokens that gradients go back through."""
    words: int = 10_000
    """Symbols where the output layer is compared."""
    rounds: int = 5
    """How often the ways take turns, after a warm-up."""
    seconds: float = 0.5
    """How long each way runs in a round, at least."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "batch_size", "steps", "words", "rounds", "seconds")


class Textbook(nn.Module):
    """An LSTM as its equations are usually typed: eight linear layers, and each of them at each step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x_i, self.x_f, self.x_g, self.x_o = (nn.Linear(input_size, hidden_size) for _ in range(4))
        self.h_i, self.h_f, self.h_g, self.h_o = (nn.Linear(hidden_size, hidden_size) for _ in range(4))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, H) inputs and the state before them -> (T, B, H) hidden states and the state after them"""
        h, c = state
        hidden = []
        for now in x:
            i = torch.sigmoid(self.x_i(now) + self.h_i(h))
            f = torch.sigmoid(self.x_f(now) + self.h_f(h))
            g = torch.tanh(self.x_g(now) + self.h_g(h))
            o = torch.sigmoid(self.x_o(now) + self.h_o(h))
            c = f * c + i * g
            h = o * torch.tanh(c)
            hidden.append(h)
        return torch.stack(hidden), (h, c)


class UsualOutput(LanguageModel):
    """The language model with its output layer and loss as usual: all logits at once, autograd."""

    def forward(self, tokens: Tensor, state: list[State], targets: Tensor | None = None) -> tuple[Tensor, list[State]]:
        """(T, B) tokens and the state before them -> the loss and the state after"""
        assert targets is not None
        x, after = self.hidden(tokens, state)
        return F.cross_entropy(self.decoder(x).flatten(0, 1), targets.flatten()), after


Way = Callable[[], int]
"""Takes a training step, and returns how many tokens it saw."""


def make_way(model: LanguageModel, config: Config, device: torch.device, *, bf16: bool) -> Way:
    """Make a function that takes training steps of a model on random text."""
    model = model.to(device)
    optimizer = language_model.make_optimizer(model, language_model.Config())
    symbols = model.decoder.out_features
    inputs, targets = torch.randint(symbols, (2, config.steps, config.batch_size), device=device)
    state = model.initial_state(config.batch_size)

    def way() -> int:
        language_model.train_step(model, optimizer, inputs, targets, state, bf16=bf16)
        return inputs.numel()

    return way


def cell_ways(config: Config, device: torch.device) -> dict[str, Way]:
    """The recurrent layer in its ways, float32 first."""

    def build(by: By) -> LanguageModel:
        size = config.hidden_size
        model = LanguageModel(CHARACTERS, by=by, embedding_size=size, hidden_size=size)
        for layer in model.layers:
            forget_(layer)
        return model

    textbook = build("loop")
    textbook.layers[0] = Textbook(config.hidden_size, config.hidden_size)
    ways = {
        "textbook": make_way(textbook, config, device, bf16=False),
        "loop": make_way(build("loop"), config, device, bf16=False),
        "hand": make_way(build("hand"), config, device, bf16=False),
        "library": make_way(build("library"), config, device, bf16=False),
    }
    if has_bf16_kernels(device):
        ways["hand_bf16"] = make_way(build("hand"), config, device, bf16=True)
        ways["library_bf16"] = make_way(build("library"), config, device, bf16=True)
    return ways


def output_ways(config: Config, device: torch.device) -> dict[str, Way]:
    """The output layer in its ways, on top of torch's LSTM."""
    size = config.hidden_size

    def build(kind: type[LanguageModel]) -> LanguageModel:
        return kind(config.words, embedding_size=size, hidden_size=size)

    ways = {
        "usual": make_way(build(UsualOutput), config, device, bf16=False),
        "chunked": make_way(build(LanguageModel), config, device, bf16=False),
    }
    if has_bf16_kernels(device):
        ways["usual_bf16"] = make_way(build(UsualOutput), config, device, bf16=True)
        ways["chunked_bf16"] = make_way(build(LanguageModel), config, device, bf16=True)
    return ways


def train(config: Config) -> dict[str, float]:
    """Run every way by turns; return the median rate of each, and ratios within the rounds."""
    with Run.open(__name__, config, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "throughput compares within one process", distributed.world_size())
        if not has_bf16_kernels(run.device):
            say("skipped", "bfloat16: PyTorch lacks bfloat16 operations for this processor")
        measures: dict[str, float] = {}
        for ways, reference in ((cell_ways, "library"), (output_ways, "usual")):
            rates = by_turns(ways(config, run.device), config.rounds, lambda way: rate(way, config.seconds, run.device))
            for name, values in rates.items():
                measures[f"{name}_tokens_per_second"] = statistics.median(values)
                measures[f"{name}_ratio"] = median_ratio(values, rates[reference])
        report(run, measures)
        return run.finish(run=measures)


def report(run: Run, measures: dict[str, float]) -> None:
    """Draw the speeds of both comparisons."""
    from common.drawing import plots

    cells = {
        "textbook": "eight linear layers a step",
        "loop": "one product a step, input hoisted",
        "hand": "gradients by hand",
        "library": "nn.LSTM",
        "hand_bf16": "gradients by hand, bf16",
        "library_bf16": "nn.LSTM, bf16",
    }
    outputs = {
        "usual": "all logits, autograd",
        "chunked": "chunks, closed form",
        "usual_bf16": "all logits, autograd, bf16",
        "chunked_bf16": "chunks, closed form, bf16",
    }
    titles = {"cells": "an LSTM in four ways", "output": f"an output layer of {run.config.words:,} words"}
    for (name, title), ways in zip(titles.items(), (cells, outputs), strict=True):
        values = {said: measures.get(f"{way}_tokens_per_second") for way, said in ways.items()}
        values = {said: value for said, value in values.items() if value is not None}
        run.figure(name, plots.bars([*values], [*values.values()], title=title, label="tokens/s, whole training step"))
