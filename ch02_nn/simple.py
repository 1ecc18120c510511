"""The book's 4x3 net: three weights and a sigmoid, trained on four samples.

    python -m ch02_nn.train simple
    python -m ch02_nn.train simple --variant third-row      # a mistake: contradictory samples

The target is the first input. The net has no bias and no hidden layer. Its predictions after 10,000 steps depend on the
random seed only in the fourth decimal. A sigmoid does not reach 0 or 1, so the loss has no minimum and the weights keep
growing.

Dimensions: B batch (4), I inputs (3).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ch02_nn.initialisation import glorot_normal
from common.config import RunOptions, read_config, require, require_positive
from common.data.source import DataCard, sha256_of
from common.device import widest_float
from common.drawing.graphs import module_picture, save
from common.progress import print_table
from common.run import Run, load_weights

INPUTS = ((0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1))
WRONG_INPUTS = ((0, 0, 1), (0, 1, 1), (0, 0, 1), (1, 1, 1))
"""Inputs of a published listing of the program: the third row equals the first."""
TARGETS = (0, 0, 1, 1)

ROUNDS = 10
"""Number of progress lines; a checkpoint can be written after each."""
SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Steps with a row in the table, in addition to the last step."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the 4x3 net."""

    steps: int = 10_000
    """Number of gradient steps, a multiple of 10; each step uses all four samples."""
    learning_rate: float = 1.0
    """Learning rate of gradient descent."""
    variant: Literal["book", "sum", "third-row", "no-square", "flat-targets"] = "book"
    """Variant of loss or data: mean of squares (book), sum of squares, wrong third row, no square, or targets of shape
    (4,)."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "steps", "learning_rate")
        require(self.steps % ROUNDS == 0, f"--steps must be a multiple of {ROUNDS}", self.steps)


class Net(nn.Module):
    """p = sigmoid(X w)"""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 1))
        glorot_normal(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) inputs -> (B, 1) predictions"""
        return torch.sigmoid(x @ self.weight)


class Cost(nn.Module):
    """Loss of the net as a module of inputs and targets."""

    def __init__(self, net: Net, variant: str) -> None:
        super().__init__()
        self.net, self.variant = net, variant

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, I) inputs, (B, 1) targets -> loss of the variant, by default mean (y - p)²

        Targets of shape (B,) are broadcast: (B,) - (B, 1) has shape (B, B), every target minus every prediction.
        """
        difference = y - self.net(x)
        if self.variant == "no-square":
            return difference.mean()
        return difference.square().sum() if self.variant == "sum" else difference.square().mean()


def make_data(variant: str) -> tuple[Tensor, Tensor]:
    """Return (4, 3) inputs and (4, 1) targets of a variant, (4,) targets for flat-targets."""
    x = torch.tensor(WRONG_INPUTS if variant == "third-row" else INPUTS, dtype=torch.float64)
    y = torch.tensor(TARGETS, dtype=torch.float64)
    return x, y if variant == "flat-targets" else y[:, None]


def train_step(cost: Cost, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """Take one training step; return the loss."""
    optimizer.zero_grad()
    loss = cost(x, y)
    loss.backward()
    optimizer.step()
    return loss.detach()


class Table:
    """Rows of the printed table; part of the checkpoint."""

    def __init__(self, steps: int) -> None:
        self.shown = {*SHOWN, steps}
        self.rows: list[list[float]] = []

    def record(self, step: int, loss: Tensor, net: Net, x: Tensor) -> None:
        """Add a row (loss, gradient norm, weights, predictions) if the step is one to show."""
        if step in self.shown:
            assert net.weight.grad is not None
            with torch.inference_mode():
                values = [loss[None], net.weight.grad.norm()[None], net.weight[:, 0], net(x)[:, 0]]
                self.rows.append([step, *torch.cat(values).tolist()])

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the rows of an interrupted run."""
        self.rows = state["rows"]


def train(config: Config) -> dict[str, float]:
    """Train the net; return the four predictions and the loss."""
    x, y = make_data(config.variant)
    card = DataCard("book-4x3", True, sha256_of(x, y), "4 rows of 3 inputs, written in simple.py")
    with Run.open(__name__, config, card, arithmetic="fp64") as run:
        dtype = widest_float(run.device)
        x, y = x.to(run.device, dtype), y.to(run.device, dtype)
        net = Net().to(run.device, dtype)
        cost, table = Cost(net, config.variant), Table(config.steps)
        optimizer = torch.optim.SGD(net.parameters(), config.learning_rate)
        steps = config.steps // ROUNDS
        for epoch in run.epochs(ROUNDS, steps, net=net, table=table):
            for step in range(steps):
                loss = train_step(cost, optimizer, x, y)
                table.record((epoch - 1) * steps + step + 1, loss, net, x)
                run.step(loss, steps=1)
            run.log()
        names = ["step", "loss", "|dL/dw|", "w1", "w2", "w3", *(f"p({a:g}{b:g}{c:g})" for a, b, c in x.tolist())]
        print_table(names, [[int(row[0]), *row[1:]] for row in table.rows], title="gradient descent")
        run.save(net)
        report(run, cost, table, x, y)
        with torch.inference_mode():
            p = {f"prediction_{number}": float(value) for number, value in enumerate(net(x), start=1)}
            return run.finish(run={**p, "loss": float(cost(x, y))})


def report(run: Run, cost: Cost, table: Table, x: Tensor, y: Tensor) -> None:
    """Write the graph of the loss as DOT text and as an image; draw loss, weights and predictions."""
    from common.drawing import plots

    graph = module_picture(cost, x, y)
    for name in ("graph.dot", "graph.png"):
        with run.writing(name) as path:
            save(graph, path)
    step, loss, _, w1, w2, w3, *predictions = ([row[column] for row in table.rows] for column in range(10))
    panels: dict[str, dict[str, plots.Line]] = {
        "loss": {"loss": (step, loss)},
        "weights": {"w1": (step, w1), "w2": (step, w2), "w3": (step, w3)},
        "predictions": {f"row {number}": (step, p) for number, p in enumerate(predictions, start=1)},
    }
    run.figure("descent", plots.line_panels(panels, columns=3, xlabel="step", log_x=True))


def restore(folder: Path) -> tuple[Net, Config]:
    """Load the net and the Config of a run folder."""
    config = read_config(folder, Config)
    net = Net().to(torch.float64)
    load_weights(net, folder)
    return net.eval(), config
