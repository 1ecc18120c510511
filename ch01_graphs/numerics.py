"""Numerical stability: condition numbers, overflow and underflow of formulas, before and after `simplify`.

    python -m ch01_graphs.train numerics

A *problem* can be ill-conditioned: a small relative change of the input changes the result by the condition number
k(x) = |x f'(x) / f(x)| times as much, whatever the formula (Higham 2002, section 1.6). Or the *formula* is unstable:
the problem is well-conditioned, but an intermediate number overflows, underflows or loses its digits. The gradient of
the graph gives k, and `simplify` replaces the unstable patterns that it contains rules for.
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
    """Inputs at which the formulas are computed."""

    largest: float = 200.0
    """Largest input; the smallest is its negative. The formulas are computed in float32."""
    points: int = 401
    """Number of evenly spaced inputs."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require(0 < self.largest < 1e6, "--largest must be above 0 and below 1e6", self.largest)
        require(self.points > 2, "--points must be at least 3", self.points)


# Functions of expressions, which build a graph, and of tensors, which compute the reference.

FORMULAS: dict[str, Callable[[Any], Any]] = {
    "log(softmax([x, 0]))": lambda z: z.softmax(1).log()[:, 0],
    "exp(x) / (exp(x) + 1)": lambda z: z[:, 0].exp() / (z[:, 0].exp() + 1),
    "1 / (1 + exp(-x))": lambda z: 1 / (1 + (-z[:, 0]).exp()),
    "log(1 + exp(x))": lambda z: (1 + z[:, 0].exp()).log(),
    "log(sum(exp([x, 0])))": lambda z: z.exp().sum(1).log(),
    "log(1 - sigmoid(x))": lambda z: (1 - z[:, 0].sigmoid()).log(),
}
"""The formulas as usually written, of the rows [x, 0] of a matrix z."""

EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "log(softmax([x, 0]))": lambda x: F.logsigmoid(x),
    "exp(x) / (exp(x) + 1)": torch.sigmoid,
    "1 / (1 + exp(-x))": torch.sigmoid,
    "log(1 + exp(x))": lambda x: -F.logsigmoid(-x),
    "log(sum(exp([x, 0])))": lambda x: -F.logsigmoid(-x),
    "log(1 - sigmoid(x))": lambda x: F.logsigmoid(-x),
}
"""Reference values: torch's own stable functions, computed in float64."""

SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
"""Smallest positive normal number of float32, 1.18e-38."""


@dataclass(frozen=True)
class Trial:
    """Values and gradients of a formula in float32 at all inputs."""

    formula: str
    value: Tensor
    """(points,)"""
    gradient: Tensor
    """(points,)"""


def try_formula(y: Expression, x: Tensor) -> Trial:
    """Compute a formula of the matrix z and its gradient in x; the rows of z are [x, 0]."""
    graph = y.graph
    z = graph.inputs["z"]
    graph.let(z, torch.stack([x, torch.zeros_like(x)], dim=1))
    value, gradient = graph.run(y, *grad(y.sum(), [z]))
    return Trial(formula(y, depth=5), value, gradient[:, 0])


def try_both(name: str, x: Tensor) -> tuple[Trial, Trial]:
    """Compute a formula as written, and after `simplify`."""
    y = FORMULAS[name](Graph().matrix("z", len(x), 2))
    return try_formula(y, x), try_formula(simplify(y).outputs[0], x)


def largest_error(trial: Trial, exact: Tensor) -> float:
    """Largest |value - exact| / max(1, |exact|): relative above 1, absolute below; inf where a value is not finite"""
    error = (trial.value.double() - exact).abs() / exact.abs().clamp_min(1)
    return float(error.where(trial.value.isfinite(), torch.inf).max())


def lost(values: Tensor) -> int:
    """Count the elements that are infinite or NaN."""
    return int((~values.isfinite()).sum())


def false_zeros(values: Tensor, exact: Tensor, at_least: float = 0.0) -> int:
    """Count the elements that are 0 although the exact value is not, and has at least the given magnitude."""
    return int(((values == 0) & (exact != 0) & (exact.abs() >= at_least)).sum())


def exact_both(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the reference value and gradient of a formula in float64."""
    x = x.double().requires_grad_()
    y = EXACT[name](x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), gradient


def count_losses(trials: dict[str, tuple[Trial, Trial]], x: Tensor) -> dict[str, float]:
    """Add up over all formulas, as written and rewritten: infinite or NaN (lost), and false zeros.

    A false zero is underflow where the exact value is below float32's normal numbers, and rounding where it is not.
    """
    found: dict[str, float] = {}
    for name, both in trials.items():
        exact = dict(zip(("value", "gradient"), exact_both(name, x), strict=True))
        for prefix, trial in zip(("", "rewritten_"), both, strict=True):
            for what, truth in exact.items():
                values = getattr(trial, what)
                counts = {
                    f"{prefix}lost_{what}s": lost(values),
                    f"{prefix}false_zero_{what}s": false_zeros(values, truth),
                    f"{prefix}rounded_to_zero_{what}s": false_zeros(values, truth, SMALLEST_NORMAL),
                }
                found |= {key: found.get(key, 0) + count for key, count in counts.items()}
    return found


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
    """A function at a point, as usually written and, where one exists, in a more stable form."""

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
"""The first and the third are ill-conditioned; the last is well-conditioned, but its formula is unstable."""


def float32_error(function: Callable[[Any], Any], x: float) -> float:
    """Relative error of a function computed in float32, including the rounding of its input."""
    exact = function(torch.tensor(x, dtype=torch.float64))
    return float(((function(torch.tensor(x)).double() - exact) / exact).abs())


def train(config: Config) -> dict[str, float]:
    """Compute all formulas and problems; return the counts of overflows and underflows, and the largest error."""
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
        counts = count_losses(trials, x)
        rows = [
            (what.replace("_", " "), f"{counts[what]:,.0f}", f"{counts[f'rewritten_{what}']:,.0f}")
            for what in counts
            if not what.startswith("rewritten_")
        ]
        print_table([f"of {len(trials) * len(x):,} values or gradients", "as written", "rewritten"], rows)
        say(
            "note",
            "lost: infinite or NaN; false zero: 0 where the exact value is not; rounded to zero: it is >= 1.2e-38",
        )
        report(run, x, trials)
        largest = max(second for _, second in worst.values())
        return run.finish(run={**counts, "points": len(trials) * len(x), "rewritten_largest_error": largest})


def report(run: Run, x: Tensor, trials: dict[str, tuple[Trial, Trial]]) -> None:
    """Draw values and gradients; where the formula as written is infinite or NaN, only the rewritten one is visible."""
    from common.drawing import plots

    for what in ("value", "gradient"):
        panels = {
            name: {"rewritten": (x, getattr(second, what)), "as written": (x, getattr(first, what))}
            for name, (first, second) in trials.items()
        }
        run.figure(f"{what}s", plots.line_panels(panels, columns=3, xlabel="x", ylabel=what))
