"""Where a correct formula gives a wrong number, and how the rewritten graph gives the right one.

    python -m ch01_graphs.train numerics

Two things can go wrong. A *problem* can be ill-conditioned: its result changes much where its input changes little, by
the condition number k(x) = |x f'(x) / f(x)| times as much, and no formula can help (Higham 2002, section 1.6). Or the
*formula* is unstable: the problem is harmless, but on the way a number overflows or loses its digits. The graph knows
the difference: its gradient gives k, and `simplify` finds stable formulas for the patterns that it knows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ch01_graphs.expression import Expression, formula
from ch01_graphs.gradient import grad
from ch01_graphs.graph import Graph
from ch01_graphs.simplify import simplify
from common.config import RunOptions, require
from common.progress import print_table, say
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Where the formulas are tried."""

    largest: float = 200.0
    """The formulas are computed in float32 for inputs between minus and plus this."""
    points: int = 401
    """How many inputs, evenly spaced."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require(0 < self.largest < 1e6, "--largest must be above 0 and below 1e6", self.largest)
        require(self.points > 2, "--points must be at least 3", self.points)


# The same functions for expressions, which write them down, and for tensors, which compute them.

FORMULAS: dict[str, Callable[[Any], Any]] = {
    "log(softmax([x, 0]))": lambda z: z.softmax(1).log()[:, 0],
    "exp(x) / (exp(x) + 1)": lambda z: z[:, 0].exp() / (z[:, 0].exp() + 1),
    "1 / (1 + exp(-x))": lambda z: 1 / (1 + (-z[:, 0]).exp()),
    "log(1 + exp(x))": lambda z: (1 + z[:, 0].exp()).log(),
    "log(sum(exp([x, 0])))": lambda z: z.exp().sum(1).log(),
    "log(1 - sigmoid(x))": lambda z: (1 - z[:, 0].sigmoid()).log(),
}
"""As one first writes them, of the rows [x, 0] of a matrix z."""

EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "log(softmax([x, 0]))": lambda x: F.logsigmoid(x),
    "exp(x) / (exp(x) + 1)": torch.sigmoid,
    "1 / (1 + exp(-x))": torch.sigmoid,
    "log(1 + exp(x))": lambda x: -F.logsigmoid(-x),
    "log(sum(exp([x, 0])))": lambda x: -F.logsigmoid(-x),
    "log(1 - sigmoid(x))": lambda x: F.logsigmoid(-x),
}
"""What they should give, by torch's own stable functions in float64."""


@dataclass(frozen=True)
class Trial:
    """A formula in float32, at many points."""

    formula: str
    value: Tensor
    """(points,)"""
    gradient: Tensor
    """(points,)"""


def try_formula(y: Expression, x: Tensor) -> Trial:
    """Compute a formula of the matrix z and its gradient, where the rows of z are [x, 0]."""
    graph = y.graph
    z = graph.inputs["z"]
    graph.let(z, torch.stack([x, torch.zeros_like(x)], dim=1))
    value, gradient = graph.run(y, *grad(y.sum(), [z]))
    return Trial(formula(y, depth=5), value, gradient[:, 0])


def try_both(name: str, x: Tensor) -> tuple[Trial, Trial]:
    """Compute a formula as it is written, and as it is after `simplify`."""
    y = FORMULAS[name](Graph().matrix("z", len(x), 2))
    return try_formula(y, x), try_formula(simplify(y).outputs[0], x)


def largest_error(trial: Trial, exact: Tensor) -> float:
    """The largest |value - exact| / max(1, |exact|): relative if large, absolute if small, inf for no number"""
    error = (trial.value.double() - exact).abs() / exact.abs().clamp_min(1)
    return float(error.where(trial.value.isfinite(), torch.inf).max())


def lost(values: Tensor) -> int:
    """Count the elements that are no number."""
    return int((~values.isfinite()).sum())


def condition_number(function: Callable[[Any], Any], x: float) -> float:
    """k(x) = |x f'(x) / f(x)|: relative error of the result by relative error of the input"""
    graph = Graph()
    variable = graph.scalar("x", torch.float64)
    y = function(variable)
    k = variable * grad(y, [variable])[0] / y
    graph.let(variable, x)
    return abs(float(graph.run(k)))


@dataclass(frozen=True)
class Problem:
    """A function at a point, as one first writes it and, where there is one, in a better way."""

    title: str
    x: float
    formula: Callable[[Any], Any]
    better: Callable[[Any], Any] | None = None


PROBLEMS = [
    Problem("log(x) near 1", 1.0001, lambda x: x.log()),
    Problem("log(x) far from 1", 1000.1, lambda x: x.log()),
    Problem("x - 1 near 1", 1.0001, lambda x: x - 1),
    Problem(
        "sqrt(x + 1) - sqrt(x) at a million",
        1e6 + 0.1,
        lambda x: (x + 1) ** 0.5 - x**0.5,
        lambda x: 1 / ((x + 1) ** 0.5 + x**0.5),
    ),
]
"""The first and the third are ill-conditioned; the last is not, its formula is unstable."""


def float32_error(function: Callable[[Any], Any], x: float) -> float:
    """Relative error of a function computed in float32, its input rounded to float32 as well."""
    exact = function(torch.tensor(x, dtype=torch.float64))
    return float(((function(torch.tensor(x)).double() - exact) / exact).abs())


def train(config: Config) -> dict[str, float]:
    """Try all formulas and problems; return how much was lost, and the largest error that is left."""
    with Run.open(__name__, config, arithmetic="fp32") as run:
        rows = []
        for problem in PROBLEMS:
            k, better = condition_number(problem.formula, problem.x), problem.better
            errors = [float32_error(problem.formula, problem.x), float32_error(better, problem.x) if better else ""]
            rows.append((problem.title, k, *errors))
        print_table(["problem", "condition number", "error in float32", "of a better formula"], rows)
        x = torch.linspace(-config.largest, config.largest, config.points)
        trials = {name: try_both(name, x) for name in FORMULAS}
        worst = {
            name: [largest_error(trial, EXACT[name](x.double())) for trial in both] for name, both in trials.items()
        }
        headings = ["formula", "error", "lost", "rewritten", "error", "lost"]
        rows = [
            (name, worst[name][0], lost(first.gradient), second.formula, worst[name][1], lost(second.gradient))
            for name, (first, second) in trials.items()
        ]
        print_table(headings, rows)
        say("note", f"largest error and lost gradients over {len(x)} inputs from {x[0]:g} to {x[-1]:g}, in float32")
        report(run, x, trials)
        return run.finish(
            run={
                "lost_values": sum(lost(first.value) for first, _ in trials.values()),
                "lost_gradients": sum(lost(first.gradient) for first, _ in trials.values()),
                "rewritten_lost_values": sum(lost(second.value) for _, second in trials.values()),
                "rewritten_lost_gradients": sum(lost(second.gradient) for _, second in trials.values()),
                "rewritten_largest_error": max(second for _, second in worst.values()),
            }
        )


def report(run: Run, x: Tensor, trials: dict[str, tuple[Trial, Trial]]) -> None:
    """Draw values and gradients; where a formula gave no number, its line is missing and the rewritten one shows."""
    from common.drawing import plots

    for what in ("value", "gradient"):
        panels = {
            name: {"rewritten": (x, getattr(second, what)), "as written": (x, getattr(first, what))}
            for name, (first, second) in trials.items()
        }
        run.figure(f"{what}s", plots.line_panels(panels, columns=3, xlabel="x", ylabel=what))
