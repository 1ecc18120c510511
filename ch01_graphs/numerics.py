"""Numerical stability: condition numbers, overflow and underflow of formulas, before and after `simplify`.

    python -m ch01_graphs.train numerics

A *problem* can be ill-conditioned: a small relative change of the input changes the result by the condition number
k(x) = |x f'(x) / f(x)| times as much, whatever the formula (Higham 2002, section 1.6). Or the *formula* is unstable:
the problem is well-conditioned, but an intermediate number overflows, underflows or loses its digits. The gradient of
the graph gives k, and `simplify` replaces the unstable patterns that it contains rules for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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

VERSIONS = ("as_written", "rewritten")

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


def non_finite(values: Tensor) -> int:
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


def count_failures(trials: dict[str, tuple[Trial, Trial]], x: Tensor) -> dict[str, float]:
    """Count infinite or NaN results and false zeros over all formulas, as written and rewritten.

    A false zero is underflow where the exact value is below float32's normal numbers, and rounding where it is not.
    """
    found: dict[str, float] = {}
    for name, both in trials.items():
        exact = dict(zip(("value", "gradient"), exact_both(name, x), strict=True))
        for version, trial in zip(VERSIONS, both, strict=True):
            for what, truth in exact.items():
                values = getattr(trial, what)
                counts = {
                    f"{version}_non_finite_{what}s": non_finite(values),
                    f"{version}_false_zero_{what}s": false_zeros(values, truth),
                    f"{version}_rounded_to_zero_{what}s": false_zeros(values, truth, SMALLEST_NORMAL),
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
        print_table(["problem", "condition number", "error in float32", "better formula"], rows)
        x = torch.linspace(-config.largest, config.largest, config.points)
        trials = {name: try_both(name, x) for name in FORMULAS}
        worst = {
            name: [largest_error(trial, EXACT[name](x.double())) for trial in both] for name, both in trials.items()
        }
        headings = ["formula", "error", "not finite", "rewritten", "error", "not finite"]
        rows = [
            (
                name,
                worst[name][0],
                non_finite(first.gradient),
                second.formula,
                worst[name][1],
                non_finite(second.gradient),
            )
            for name, (first, second) in trials.items()
        ]
        print_table(headings, rows)
        say("note", f"largest error, infinite or NaN gradients: {len(x)} inputs from {x[0]:g} to {x[-1]:g}, in float32")
        counts = count_failures(trials, x)
        kinds = [name.removeprefix("rewritten_") for name in counts if name.startswith("rewritten_")]
        rows = [
            (kind.replace("_", " "), *(f"{counts[f'{version}_{kind}']:,.0f}" for version in VERSIONS)) for kind in kinds
        ]
        print_table([f"of {len(trials) * len(x):,} values or gradients", "as written", "rewritten"], rows)
        say(
            "note",
            "false zero: 0 where the exact value is not 0; rounded to zero: the exact value is at least 1.2e-38",
        )
        report(run, x, trials)
        largest = max(second for _, second in worst.values())
        return run.finish(run={**counts, "points": len(trials) * len(x), "rewritten_largest_error": largest})


def report(run: Run, x: Tensor, trials: dict[str, tuple[Trial, Trial]]) -> None:
    """Draw values and gradients, the magnitude of the values beside the exact one, and errors by input."""
    from common.drawing import plots

    for what in ("value", "gradient"):  # where the formula as written is infinite or NaN, the other line is visible
        panels = {
            name: {"rewritten": (x, getattr(second, what)), "as written": (x, getattr(first, what))}
            for name, (first, second) in trials.items()
        }
        run.figure(f"{what}s", plots.line_panels(panels, columns=3, xlabel="x", ylabel=what))
    sizes = {
        name: {
            "exact, in float64": (x, exact_both(name, x)[0].abs()),
            "rewritten, in float32": (x, second.value.abs().where(second.value != 0, torch.nan)),
        }
        for name, (_, second) in trials.items()
    }
    run.figure("magnitudes", plots.line_panels(sizes, columns=3, xlabel="x", ylabel="|value|", log_y=True))
    run.figure("conditioning", draw_conditioning())


ROUNDOFF = 2.0**-24
"""Unit roundoff u of float32: the largest relative error of a rounded number."""


def draw_conditioning() -> "Figure":
    """Draw the error in float32 of an ill-conditioned and of an unstable formula beside that of the rounded input."""
    from common.drawing import plots

    logarithm, difference = PROBLEMS[0], PROBLEMS[3]
    assert difference.better is not None
    gaps, inputs = torch.logspace(-6, 1, 36), torch.logspace(0, 7, 36)
    panels = {
        "log(x): ill-conditioned near 1": {
            "error as written": (gaps, [worst_error(logarithm.formula, 1 + float(gap), float(gap)) for gap in gaps]),
            "(k(x) + 1) u": (gaps, [bound(logarithm.formula, 1 + float(gap)) for gap in gaps]),
        },
        "sqrt(x + 1) - sqrt(x): unstable formula": {
            "error as written": (inputs, [worst_error(difference.formula, float(x), float(x)) for x in inputs]),
            "(k(x) + 1) u": (inputs, [bound(difference.formula, float(x)) for x in inputs]),
            "error of 1 / (sqrt(x + 1) + sqrt(x))": (
                inputs,
                [worst_error(difference.better, float(x), float(x)) for x in inputs],
            ),
        },
    }
    figure = plots.line_panels(panels, columns=2, ylabel="relative error", log_x=True, log_y=True, size=1.3)
    for axes, label in zip(figure.axes, ("x - 1", "x"), strict=True):
        axes.set_xlabel(label)
    return figure


def bound(function: Callable[[Any], Any], x: float) -> float:
    """(k(x) + 1) u: relative error of the exact function of the rounded x, rounded once more."""
    return (condition_number(function, x) + 1) * ROUNDOFF


def worst_error(function: Callable[[Any], Any], x: float, gap: float) -> float:
    """Largest relative error in float32 at 40 inputs around x, at most a tenth of the gap away."""
    return max(float32_error(function, x + gap * share / 200) for share in range(-20, 20))
