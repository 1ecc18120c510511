"""Vanishing and exploding gradients: how gradients change over time steps, and over which lags each cell can learn.

    python -m ch05_rnn.train gradients
    python -m ch05_rnn.train gradients --lags 10 200 --training-steps 1000

Two measurements for each cell and initialisation. The first is before training: the norm of the gradient of the last
hidden state with respect to the state k steps earlier. Each step multiplies the gradient by a Jacobian, so its norm
changes about as a factor to the power of k. The gradient vanishes or explodes unless the factor is close to 1
(Hochreiter 1991; Bengio, Simard & Frasconi 1994). The second is a recall task: at the end of a sequence, predict its
first symbol after a number of distractors (the lag).

Dimensions: T steps, B batch, H hidden units, S symbols to recall, 2S symbols in all.
"""

from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.recurrence.cells import CELLS, STATES, CellName, Recurrent, chrono_, open_forget_gates_, orthogonal_
from common.config import RunOptions, require, require_positive
from common.device import widest_float
from common.progress import print_table, track
from common.run import Run

SYMBOLS = 8
"""Number of symbols to recall, S, and of different distractors."""

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
"""Cell and initialisation of each case: torch's default, orthogonal, orthogonal times 2 ("large"), forget-gate bias 1,
chrono."""

LABELS = {
    "torch": "default",
    "orthogonal": "orthogonal",
    "large": "orthogonal × 2",
    "forget": "forget-gate bias 1",
    "chrono": "chrono",
}
"""Names of the initialisations in the figure."""


@dataclass(frozen=True)
class Config:
    """Settings of both measurements."""

    hidden_size: int = 64
    """Hidden units."""
    batch_size: int = 64
    """Batch size, in sequences."""
    lags: tuple[int, ...] = (10, 30, 100)
    """Numbers of distractors in the recall task."""
    training_steps: int = 300
    """Gradient steps per cell and lag; 0 skips the recall task."""
    learning_rate: float = 3e-3
    """Learning rate of Adam."""
    chrono_steps: int = 200
    """Longest time scale of the chrono initialisation, in steps; the same for every lag, which is not known to it."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "batch_size", "lags", "learning_rate")
        require(self.training_steps >= 0, "--training-steps must not be negative", self.training_steps)
        require(self.chrono_steps >= 3, "--chrono-steps must be at least 3", self.chrono_steps)
        require(len(self.lags) > 0, "--lags must name at least one", self.lags)


class Recall(nn.Module):
    """A recurrent layer over one-hot symbols and a linear layer that predicts the symbol to recall."""

    def __init__(self, case: str, hidden_size: int, chrono_steps: int) -> None:
        super().__init__()
        cell, initialisation = CASES[case]
        self.recurrent = Recurrent(CELLS[cell](2 * SYMBOLS, hidden_size))
        if initialisation in ("orthogonal", "large"):
            orthogonal_(self.recurrent, gain=2.0 if initialisation == "large" else 1.0)
        elif initialisation == "forget":
            open_forget_gates_(self.recurrent)
        elif initialisation == "chrono":
            chrono_(self.recurrent, chrono_steps)
        self.states = STATES[cell]
        self.out = nn.Linear(hidden_size, SYMBOLS)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """B -> zeros"""
        return tuple(self.out.weight.new_zeros(batch, self.out.in_features) for _ in range(self.states))

    def forward(self, symbols: Tensor) -> Tensor:
        """(T, B) symbols -> (B, S) logits after the last symbol"""
        hidden, _ = self.recurrent(self.one_hot(symbols), self.initial_state(symbols.shape[1]))
        return self.out(hidden[-1])

    def one_hot(self, symbols: Tensor) -> Tensor:
        """(T, B) symbols -> (T, B, 2S) one-hot vectors"""
        return F.one_hot(symbols, 2 * SYMBOLS).to(self.out.weight.dtype)


def draw_sequences(lag: int, batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(lag + 1, B) sequences: the symbol to recall, then `lag` distractors"""
    first = torch.randint(SYMBOLS, (1, batch), generator=generator)
    distractors = torch.randint(SYMBOLS, 2 * SYMBOLS, (lag, batch), generator=generator)
    return torch.cat([first, distractors]).to(device)


def gradient_norms(model: Recall, symbols: Tensor) -> Tensor:
    """(T, B) symbols -> (T,) norms of the gradient of the last hidden state in the state 0, 1, 2 ... steps earlier

    The gradient is that of the last hidden state along a random unit vector, the norm a mean over the batch. The state
    of an LSTM is both h and c.
    """
    projected = model.recurrent.cell.project(model.one_hot(symbols))
    states = [model.initial_state(symbols.shape[1])]
    for projected_t in projected:
        states.append(model.recurrent.cell.step(projected_t, states[-1]))
    direction = F.normalize(torch.randn_like(states[-1][0]), dim=1)
    inputs = [tensor for state in states[1:] for tensor in state]
    gradients = torch.autograd.grad((states[-1][0] * direction).sum(), inputs, materialize_grads=True)
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


def recall_accuracy(model: Recall, lag: int, config: Config, run: Run) -> float:
    """Train a network on the recall task with this lag; return its accuracy on new sequences."""
    generator = torch.Generator().manual_seed(config.run.seed)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    for _ in range(config.training_steps):
        train_step(model, optimizer, draw_sequences(lag, config.batch_size, generator, run.device))
    with torch.inference_mode():
        symbols = draw_sequences(lag, 1_000, generator, run.device)
        return float((model(symbols).argmax(1) == symbols[0]).float().mean())


def train(config: Config) -> dict[str, float]:
    """Measure every cell and initialisation; return gradient factors per step and recall accuracies."""
    with Run.open(__name__, config, arithmetic="fp32") as run:
        max_lag = max(config.lags)
        norms, measures = {}, {}
        for name in CASES:
            torch.manual_seed(config.run.seed)
            model = Recall(name, config.hidden_size, config.chrono_steps)
            model = model.to(run.device, widest_float(run.device))  # vanishing gradients underflow in float32
            symbols = draw_sequences(max_lag, config.batch_size, run.generator, run.device)
            norms[name] = gradient_norms(model, symbols).cpu()
            measures[f"{name}_factor_a_step"] = float((norms[name][-1] / norms[name][0]) ** (1 / max_lag))
        trainings = list(product(config.lags, CASES)) if config.training_steps else []
        for lag, name in track(trainings, "trainings"):
            torch.manual_seed(config.run.seed)
            model = Recall(name, config.hidden_size, config.chrono_steps).to(run.device)
            measures[f"{name}_recall_{lag}_accuracy"] = recall_accuracy(model, lag, config, run)
        report(run, norms, measures)
        return run.finish(run=measures)


def report(run: Run, norms: dict[str, Tensor], measures: dict[str, float]) -> None:
    """Draw the gradient norms over time and print the table."""
    from common.drawing import plots

    panels: dict[str, dict[str, tuple[Tensor, Tensor]]] = {cell.upper(): {} for cell in CELLS}
    for name, values in norms.items():
        cell, initialisation = CASES[name]
        panels[cell.upper()][LABELS[initialisation]] = torch.arange(len(values)), values
    figure = plots.line_panels(
        panels,
        columns=len(panels),
        xlabel="steps back in time",
        ylabel="gradient norm",
        log_y=True,
        share_y=True,
        size=1.15,
    )
    run.figure("gradients", figure)
    columns = ["factor_a_step", *(f"recall_{lag}_accuracy" for lag in run.config.lags if run.config.training_steps)]
    rows = [[name.replace("_", " "), *(measures[f"{name}_{column}"] for column in columns)] for name in norms]
    print_table(["", *(column.replace("_", " ") for column in columns)], rows)
