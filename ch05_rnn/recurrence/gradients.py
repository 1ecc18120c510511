"""Why plain recurrent networks forget: gradients through time, and how far back each cell can learn to look.

    python -m ch05_rnn.train gradients
    python -m ch05_rnn.train gradients --lags 10 200 --training-steps 1000

Two measurements of the same cells and ways to begin. First, before any training: how long is the gradient of the last
hidden state in the state so many steps before? A step back multiplies it by the step's Jacobian; over k steps that is
a factor to the power of k, so it vanishes or explodes unless the factor is close to 1 (Hochreiter 1991; Bengio, Simard
& Frasconi 1994). Second, what that does: the first symbol of a sequence must be named at its end, distractors between.

Dimensions: T steps, B batch, H hidden units, S symbols to remember, 2S symbols in all.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.recurrence.cells import CELLS, STATES, CellName, Recurrent, chrono_, forget_, orthogonal_
from common.config import RunOptions, require, require_positive
from common.device import widest_float
from common.progress import print_table
from common.run import Run

SYMBOLS = 8
"""Symbols to remember, S, and as many distractors."""

CASES: dict[str, tuple[CellName, str]] = {
    "rnn": ("rnn", "torch"),
    "rnn_orthogonal": ("rnn", "orthogonal"),
    "rnn_large": ("rnn", "large"),
    "gru": ("gru", "torch"),
    "gru_chrono": ("gru", "chrono"),
    "lstm": ("lstm", "torch"),
    "lstm_forget": ("lstm", "forget"),
    "lstm_chrono": ("lstm", "chrono"),
}
"""Cells and how their weights begin: as torch's do, orthogonal, twice that, with forget gates open, or chrono."""


@dataclass(frozen=True)
class Config:
    """What is measured."""

    hidden_size: int = 64
    """Hidden units H."""
    batch_size: int = 64
    """Sequences a step."""
    lags: tuple[int, ...] = (10, 30, 100)
    """How many steps lie between a symbol and the question for it."""
    training_steps: int = 300
    """Gradient steps of each cell at each lag; 0 leaves that measurement out."""
    learning_rate: float = 3e-3
    """Step size of Adam."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "batch_size", "lags", "learning_rate")
        require(self.training_steps >= 0, "--training-steps must not be negative", self.training_steps)
        require(len(self.lags) > 0, "--lags must name at least one", self.lags)


class Recall(nn.Module):
    """Reads one-hot symbols, and names one at the end."""

    def __init__(self, case: str, hidden_size: int, longest: int) -> None:
        super().__init__()
        cell, start = CASES[case]
        self.recurrent = Recurrent(CELLS[cell](2 * SYMBOLS, hidden_size))
        if start in ("orthogonal", "large"):
            orthogonal_(self.recurrent, gain=2.0 if start == "large" else 1.0)
        elif start == "forget":
            forget_(self.recurrent)
        elif start == "chrono":
            chrono_(self.recurrent, max(3, longest))
        self.states = STATES[cell]
        self.out = nn.Linear(hidden_size, SYMBOLS)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """B -> zeros"""
        return tuple(self.out.weight.new_zeros(batch, self.out.in_features) for _ in range(self.states))

    def forward(self, symbols: Tensor) -> Tensor:
        """(T, B) symbols -> (B, S) logits after the last"""
        hidden, _ = self.recurrent(self.one_hot(symbols), self.initial_state(symbols.shape[1]))
        return self.out(hidden[-1])

    def one_hot(self, symbols: Tensor) -> Tensor:
        """(T, B) symbols -> (T, B, 2S) zeros and ones"""
        return F.one_hot(symbols, 2 * SYMBOLS).to(self.out.weight.dtype)


def draw_sequences(lag: int, batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(lag + 1, B) sequences: a symbol to remember, and as many distractors as the lag"""
    first = torch.randint(SYMBOLS, (1, batch), generator=generator)
    rest = torch.randint(SYMBOLS, 2 * SYMBOLS, (lag, batch), generator=generator)
    return torch.cat([first, rest]).to(device)


def gradient_norms(model: Recall, symbols: Tensor) -> Tensor:
    """(T, B) symbols -> (T,) how long the gradient of the last hidden state is in the state 0, 1, 2 ... steps before

    The gradient is that of the last hidden state along a random direction of length 1, its length the mean over the
    batch; the LSTM's state is both its h and its c.
    """
    projected = model.recurrent.cell.project(model.one_hot(symbols))
    states = [model.initial_state(symbols.shape[1])]
    for now in projected:
        states.append(model.recurrent.cell.step(now, states[-1]))
    direction = F.normalize(torch.randn_like(states[-1][0]), dim=1)
    flat = [part for state in states[1:] for part in state]
    gradients = torch.autograd.grad((states[-1][0] * direction).sum(), flat, materialize_grads=True)
    squares = torch.stack([g.square().sum(1) for g in gradients]).view(len(projected), model.states, -1)
    return squares.sum(1).sqrt().mean(1).flip(0)


def train_step(model: Recall, optimizer: torch.optim.Optimizer, symbols: Tensor) -> Tensor:
    """Take one gradient step; return the loss, still on the device."""
    loss = F.cross_entropy(model(symbols), symbols[0])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def recall(model: Recall, lag: int, config: Config, run: Run) -> float:
    """Train a network to remember over a lag; return how often it names the right symbol in new sequences."""
    generator = torch.Generator().manual_seed(config.run.seed)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    for _ in range(config.training_steps):
        train_step(model, optimizer, draw_sequences(lag, config.batch_size, generator, run.device))
    with torch.inference_mode():
        symbols = draw_sequences(lag, 1_000, generator, run.device)
        return float((model(symbols).argmax(1) == symbols[0]).float().mean())


def train(config: Config) -> dict[str, float]:
    """Measure every cell and start; return factors a step and recall accuracies."""
    with Run.open(__name__, config, arithmetic="fp32") as run:
        longest = max(config.lags)
        norms, measures = {}, {}
        for name in CASES:
            torch.manual_seed(config.run.seed)
            model = Recall(name, config.hidden_size, longest).to(run.device, widest_float(run.device))  # gradients fade
            symbols = draw_sequences(longest, config.batch_size, run.generator, run.device)
            norms[name] = gradient_norms(model, symbols).cpu()
            measures[f"{name}_factor_a_step"] = float((norms[name][-1] / norms[name][0]) ** (1 / longest))
        for lag in config.lags if config.training_steps else ():
            for name in CASES:
                torch.manual_seed(config.run.seed)
                model = Recall(name, config.hidden_size, lag).to(run.device)
                measures[f"{name}_recall_{lag}_accuracy"] = recall(model, lag, config, run)
        report(run, norms, measures)
        return run.finish(run=measures)


def report(run: Run, norms: dict[str, Tensor], measures: dict[str, float]) -> None:
    """Draw the gradients against time, and print the table."""
    from common.drawing import plots

    lines = {name.replace("_", ", "): (torch.arange(len(values)), values) for name, values in norms.items()}
    figure = plots.line_panels(
        {"gradient of the last hidden state in an earlier state": lines},
        columns=1,
        xlabel="steps back",
        ylabel="length",
        log_y=True,
        size=1.8,
    )
    run.figure("gradients", figure)
    columns = ["factor_a_step", *(f"recall_{lag}_accuracy" for lag in run.config.lags if run.config.training_steps)]
    rows = [[name.replace("_", " "), *(measures[f"{name}_{column}"] for column in columns)] for name in norms]
    print_table(["", *(column.replace("_", " ") for column in columns)], rows)
