"""Training throughput of four LSTM implementations, and of two output layers with 10,000 words.

    python -m ch05_rnn.train throughput
    python -m ch05_rnn.train throughput --hidden-size 512 --batch-size 128 --steps 64

Each variant runs complete training steps of the language model: forward pass, backward pass and AdamW. The variants are
interleaved in one process. The text is random, which does not change the speed.

Dimensions: T steps, B batch, V vocabulary size, H hidden units.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.language import language_model
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.recurrence.cells import By, State, open_forget_gates_
from common import distributed
from common.benchmark import interleaved, rate
from common.config import RunOptions, require, require_positive
from common.device import has_bf16_kernels
from common.peers import ratios_of
from common.progress import say
from common.run import Run

CHARACTERS = 66
"""Vocabulary size for the comparison of recurrent layers: small, so that the output layer takes little time."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    hidden_size: int = 256
    """Hidden units and embedding size."""
    batch_size: int = 32
    """Batch size: parallel streams of text."""
    steps: int = 35
    """Length of truncated backpropagation through time, in tokens."""
    words: int = 10_000
    """Vocabulary size for the comparison of output layers."""
    rounds: int = 5
    """Number of rounds after a warm-up; every variant runs once per round."""
    seconds: float = 0.5
    """Minimum time of a variant per round, in seconds."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "batch_size", "steps", "words", "rounds", "seconds")


class Textbook(nn.Module):
    """An LSTM written directly from its equations: eight linear layers per time step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x_i, self.x_f, self.x_g, self.x_o = (nn.Linear(input_size, hidden_size) for _ in range(4))
        self.h_i, self.h_f, self.h_g, self.h_o = (nn.Linear(hidden_size, hidden_size) for _ in range(4))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, H) inputs and the initial state -> (T, B, H) hidden states and the final state"""
        h, c = state
        hidden = []
        for x_t in x:
            i = torch.sigmoid(self.x_i(x_t) + self.h_i(h))
            f = torch.sigmoid(self.x_f(x_t) + self.h_f(h))
            g = torch.tanh(self.x_g(x_t) + self.h_g(h))
            o = torch.sigmoid(self.x_o(x_t) + self.h_o(h))
            c = f * c + i * g
            h = o * torch.tanh(c)
            hidden.append(h)
        return torch.stack(hidden), (h, c)


class StandardOutput(LanguageModel):
    """The language model with a standard output layer: all logits at once, then F.cross_entropy with autograd."""

    def forward(self, tokens: Tensor, state: list[State], targets: Tensor | None = None) -> tuple[Tensor, list[State]]:
        """(T, B) tokens, the initial state and (T, B) targets -> the loss and the final state"""
        assert targets is not None
        x, final = self.hidden(tokens, state)
        return F.cross_entropy(self.decoder(x).flatten(0, 1), targets.flatten()), final


TrainingStep = Callable[[], int]
"""Takes one training step and returns its number of tokens."""


def make_training_step(model: LanguageModel, config: Config, device: torch.device, *, bf16: bool) -> TrainingStep:
    """Return a function that takes training steps of a model on random text."""
    model = model.to(device)
    optimizer = language_model.make_optimizer(model, language_model.Config())
    vocabulary_size = model.decoder.out_features
    inputs, targets = torch.randint(vocabulary_size, (2, config.steps, config.batch_size), device=device)
    state = model.initial_state(config.batch_size)

    def step() -> int:
        language_model.train_step(model, optimizer, inputs, targets, state, bf16=bf16)
        return inputs.numel()

    return step


def cell_variants(config: Config, device: torch.device) -> dict[str, TrainingStep]:
    """Return training steps of all LSTM implementations, float32 first."""

    def build(by: By) -> LanguageModel:
        size = config.hidden_size
        model = LanguageModel(CHARACTERS, by=by, embedding_size=size, hidden_size=size)
        for layer in model.layers:
            open_forget_gates_(layer)
        return model

    textbook = build("loop")
    textbook.layers[0] = Textbook(config.hidden_size, config.hidden_size)
    variants = {
        "textbook": make_training_step(textbook, config, device, bf16=False),
        "loop": make_training_step(build("loop"), config, device, bf16=False),
        "hand": make_training_step(build("hand"), config, device, bf16=False),
        "library": make_training_step(build("library"), config, device, bf16=False),
    }
    if has_bf16_kernels(device):
        variants["hand_bf16"] = make_training_step(build("hand"), config, device, bf16=True)
        variants["library_bf16"] = make_training_step(build("library"), config, device, bf16=True)
    return variants


def output_variants(config: Config, device: torch.device) -> dict[str, TrainingStep]:
    """Return training steps of both output layers, with torch's LSTM below."""
    size = config.hidden_size

    def build(kind: type[LanguageModel]) -> LanguageModel:
        return kind(config.words, embedding_size=size, hidden_size=size)

    variants = {
        "usual": make_training_step(build(StandardOutput), config, device, bf16=False),
        "chunked": make_training_step(build(LanguageModel), config, device, bf16=False),
    }
    if has_bf16_kernels(device):
        variants["usual_bf16"] = make_training_step(build(StandardOutput), config, device, bf16=True)
        variants["chunked_bf16"] = make_training_step(build(LanguageModel), config, device, bf16=True)
    return variants


def train(config: Config) -> dict[str, float]:
    """Time all variants interleaved; return the median rate of each, and its ratio to the reference with its range."""
    with Run.open(__name__, config, arithmetic="fp32 and bf16") as run:
        require(distributed.world_size() == 1, "throughput compares within one process", distributed.world_size())
        if not has_bf16_kernels(run.device):
            say("skipped", "bfloat16: PyTorch lacks bfloat16 operations for this processor")
        measures: dict[str, float] = {}
        for variants, reference in ((cell_variants, "library"), (output_variants, "usual")):
            steps = variants(config, run.device)
            rates = interleaved(steps, config.rounds, lambda step: rate(step, config.seconds, run.device))
            for name, values in rates.items():
                measures[f"{name}_tokens_per_second"] = statistics.median(values)
                measures |= ratios_of(name, values, rates[reference], "tokens_per_second")
        report(run, measures)
        return run.finish(run=measures)


def report(run: Run, measures: dict[str, float]) -> None:
    """Draw the throughput of both comparisons."""
    from common.drawing import plots

    cells = {
        "textbook": "eight linear layers per step",
        "loop": "one matrix product per step",
        "hand": "backpropagation by hand",
        "library": "nn.LSTM",
        "hand_bf16": "backpropagation by hand, bf16",
        "library_bf16": "nn.LSTM, bf16",
    }
    outputs = {
        "usual": "all logits, autograd",
        "chunked": "chunks, closed form",
        "usual_bf16": "all logits, autograd, bf16",
        "chunked_bf16": "chunks, closed form, bf16",
    }
    titles = {"cells": "LSTM implementations", "output": f"output layers with {run.config.words:,} words"}
    for (name, title), labels in zip(titles.items(), (cells, outputs), strict=True):
        values = {label: measures.get(f"{variant}_tokens_per_second") for variant, label in labels.items()}
        values = {label: value for label, value in values.items() if value is not None}
        run.figure(name, plots.bars([*values], [*values.values()], title=title, label="tokens/s, full training step"))
