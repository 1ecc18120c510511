"""Gradient descent on one weight, y = W x: the effect of the learning rate.

    python -m ch02_nn.train descent
    python -m ch02_nn.train descent --learning-rate 0.9      # oscillates
    python -m ch02_nn.train descent --learning-rate 1.1      # diverges

For one sample (x, y) and the loss L = (W x - y)², a step is W <- W - eta dL/dW with dL/dW = 2 x (W x - y). Each step
multiplies the distance to the optimal weight W* = y / x by the factor r = 1 - 2 eta x²:

    W_t - W* = r^t (W_0 - W*)

W converges for 0 < eta < 1 / x², oscillates for eta > 1 / (2 x²), and diverges for eta > 1 / x².
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from common.config import RunOptions, require, require_positive
from common.data.source import DataCard, sha256_of
from common.progress import print_table
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELATIVE_RATES = (0.1, 0.5, 0.9, 1.1)
"""Learning rates of the figure in units of 1 / x²: slow, one step, oscillating, diverging."""


@dataclass(frozen=True)
class Config:
    """Sample, initial weight and gradient descent."""

    x: float = 1.0
    """Input x of the sample."""
    y: float = 2.0
    """Target y of the sample."""
    weight: float = 0.0
    """Initial weight W."""
    learning_rate: float = 0.2
    """Learning rate eta."""
    steps: int = 10
    """Number of gradient steps."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate")
        require(1 <= self.steps <= 1_000, "--steps must be between 1 and 1000", self.steps)
        require(math.isfinite(self.x) and self.x != 0, "--x must be a finite number other than 0", self.x)
        for name in ("y", "weight"):
            require(math.isfinite(getattr(self, name)), f"--{name} must be a finite number", getattr(self, name))


@dataclass(frozen=True)
class Step:
    """Values before a step: one row of the table."""

    weight: float
    output: float
    loss: float
    gradient: float


def descend(config: Config, learning_rate: float) -> list[Step]:
    """Run gradient descent; the last entry has the values after the last step."""
    w, steps = config.weight, []
    for _ in range(config.steps + 1):
        output = w * config.x
        error = output - config.y
        gradient = 2 * config.x * error  # dL/dW
        steps.append(Step(w, output, error * error, gradient))
        w -= learning_rate * gradient
    return steps


def train(config: Config) -> dict[str, float]:
    """Run gradient descent and print every step; return the weight after some of them."""
    sample = torch.tensor([config.x, config.y], dtype=torch.float64)
    card = DataCard("one-sample", True, sha256_of(sample), f"x = {config.x:g}, y = {config.y:g}, given on this line")
    with Run.open(__name__, config, card, arithmetic="fp64") as run:
        steps = descend(config, config.learning_rate)
        if not math.isfinite(steps[-1].loss):
            raise FloatingPointError("the loss is not finite: lower --learning-rate or --steps")
        rows = [(number, *vars(step).values()) for number, step in enumerate(steps)]
        print_table(["step", "W", "W x", "(W x - y)²", "dL/dW"], rows)
        run.figure("descent", draw(config))
        shown = {f"weight_after_{number}": steps[number].weight for number in (1, 2, 5, 10) if number < len(steps)}
        ratio = 1 - 2 * config.learning_rate * config.x**2
        return run.finish(run={**shown, "distance_factor": ratio, "loss": steps[-1].loss})


def draw(config: Config) -> "Figure":
    """Draw the steps on the loss parabola, one panel per learning rate."""
    from common.drawing import plots

    best = config.y / config.x
    reach = 1.5 * abs(config.weight - best) or 1.0
    weights = torch.linspace(best - reach, best + reach, 201)
    parabola = (weights, (weights * config.x - config.y) ** 2)
    panels: dict[str, dict[str, plots.Line]] = {}
    for rate in RELATIVE_RATES:
        eta = rate / config.x**2
        path = [step for step in descend(config, eta) if abs(step.weight - best) <= reach]
        panels[f"learning rate {eta:.3g}"] = {
            "L(W)": parabola,
            "steps": ([step.weight for step in path], [step.loss for step in path]),
        }
    return plots.line_panels(panels, columns=4, xlabel="W", ylabel="loss", share_y=True, marked=("steps",))
