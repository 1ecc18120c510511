"""Numerical stability: condition numbers of functions; overflow and underflow before and after `simplify`.

    python -m ch01_graphs.train numerics

A small relative error of the input x of a function f causes a relative error of the result that is k(x) times as large,
with the condition number k(x) = |x f'(x) / f(x)| (Higham 2002, section 1.6). A *problem* is ill-conditioned if k is
large; a different formula does not help. A *formula* is unstable if its result is inaccurate although k is small: an
intermediate value overflows, underflows or loses significant digits. Here k is computed with the gradient of a graph.
`simplify` replaces unstable formulas for which it has rules.
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
    """Inputs at which the formulas are evaluated."""

    largest: float = 200.0
    """Largest input; the smallest is its negative. The formulas are evaluated in float32."""
    points: int = 401
    """Number of evenly spaced inputs."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require(0 < self.largest < 1e6, "--largest must be above 0 and below 1e6", self.largest)
        require(self.points > 2, "--points must be at least 3", self.points)


# FORMULAS take an expression and extend its graph; EXACT take a tensor and compute reference values.

FORMULAS: dict[str, Callable[[Any], Any]] = {
    "log(softmax([x, 0]))": lambda z: z.softmax(1).log()[:, 0],
    "exp(x) / (exp(x) + 1)": lambda z: z[:, 0].exp() / (z[:, 0].exp() + 1),
    "1 / (1 + exp(-x))": lambda z: 1 / (1 + (-z[:, 0]).exp()),
    "log(1 + exp(x))": lambda z: (1 + z[:, 0].exp()).log(),
    "log(sum(exp([x, 0])))": lambda z: z.exp().sum(1).log(),
    "log(1 - sigmoid(x))": lambda z: (1 - z[:, 0].sigmoid()).log(),
}
"""Formulas as usually written; z is a matrix with rows [x, 0]."""

EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "log(softmax([x, 0]))": lambda x: F.logsigmoid(x),
    "exp(x) / (exp(x) + 1)": torch.sigmoid,
    "1 / (1 + exp(-x))": torch.sigmoid,
    "log(1 + exp(x))": lambda x: -F.logsigmoid(-x),
    "log(sum(exp([x, 0])))": lambda x: -F.logsigmoid(-x),
    "log(1 - sigmoid(x))": lambda x: F.logsigmoid(-x),
}
"""Stable functions of torch, which compute the reference values in float64."""

VERSIONS = ("as_written", "rewritten")

SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
"""Smallest positive normal number of float32, about 1.18e-38."""


@dataclass(frozen=True)
class Evaluation:
    """Values and gradients of a formula in float32 at all inputs."""

    formula: str
    value: Tensor
    """(points,)"""
    gradient: Tensor
    """(points,)"""


def evaluate(y: Expression, x: Tensor) -> Evaluation:
    """Evaluate a formula of the matrix z with rows [x, 0], and its gradient with respect to x."""
    graph = y.graph
    z = graph.inputs["z"]
    graph.let(z, torch.stack([x, torch.zeros_like(x)], dim=1))
    value, gradient = graph.run(y, *grad(y.sum(), [z]))
    return Evaluation(formula(y, depth=5), value, gradient[:, 0])


def evaluate_both(name: str, x: Tensor) -> tuple[Evaluation, Evaluation]:
    """Evaluate a formula as written and after `simplify`."""
    y = FORMULAS[name](Graph().matrix("z", len(x), 2))
    return evaluate(y, x), evaluate(simplify(y).outputs[0], x)


def largest_error(evaluation: Evaluation, exact: Tensor) -> float:
    """Return the largest |value - exact| / max(1, |exact|); infinity if a value is not finite."""
    error = (evaluation.value.double() - exact).abs() / exact.abs().clamp_min(1)
    return float(error.where(evaluation.value.isfinite(), torch.inf).max())


def non_finite(values: Tensor) -> int:
    """Count the elements that are infinite or NaN."""
    return int((~values.isfinite()).sum())


def false_zeros(values: Tensor, exact: Tensor, at_least: float = 0.0) -> int:
    """Count the elements that are 0 although the exact value is not 0 and has at least the given magnitude."""
    return int(((values == 0) & (exact != 0) & (exact.abs() >= at_least)).sum())


def exact_value_and_gradient(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the reference values and gradients of a formula in float64."""
    x = x.double().requires_grad_()
    y = EXACT[name](x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), gradient


def count_failures(evaluations: dict[str, tuple[Evaluation, Evaluation]], x: Tensor) -> dict[str, float]:
    """Count infinite or NaN results and false zeros over all formulas, as written and rewritten.

    `rounded_to_zero` counts the false zeros whose exact value is not below the normal numbers of float32; the others
    are underflow.
    """
    found: dict[str, float] = {}
    for name, both in evaluations.items():
        exact = dict(zip(("value", "gradient"), exact_value_and_gradient(name, x), strict=True))
        for version, evaluation in zip(VERSIONS, both, strict=True):
            for what, truth in exact.items():
                values = getattr(evaluation, what)
                counts = {
                    f"{version}_non_finite_{what}s": non_finite(values),
                    f"{version}_false_zero_{what}s": false_zeros(values, truth),
                    f"{version}_rounded_to_zero_{what}s": false_zeros(values, truth, SMALLEST_NORMAL),
                }
                found |= {key: found.get(key, 0) + count for key, count in counts.items()}
    return found


def condition_number(function: Callable[[Any], Any], x: float) -> float:
    """Compute k(x) = |x f'(x) / f(x)|: relative error of the result per relative error of the input."""
    graph = Graph()
    variable = graph.scalar("x", torch.float64)
    y = function(variable)
    k = variable * grad(y, [variable])[0] / y
    graph.let(variable, x)
    return abs(float(graph.run(k)))


@dataclass(frozen=True)
class Problem:
    """Function and input: the formula as usually written and, if there is one, a stable formula."""

    title: str
    x: float
    formula: Callable[[Any], Any]
    stable: Callable[[Any], Any] | None = None


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
"""The first and the third are ill-conditioned. The last is well-conditioned, but its usual formula is unstable."""


def float32_error(function: Callable[[Any], Any], x: float) -> float:
    """Compute the relative error of a function in float32, including the rounding of its input."""
    exact = function(torch.tensor(x, dtype=torch.float64))
    return float(((function(torch.tensor(x)).double() - exact) / exact).abs())


def train(config: Config) -> dict[str, float]:
    """Evaluate all problems and formulas; return the counts of failures and the largest error after `simplify`."""
    with Run.open(__name__, config, arithmetic="fp32") as run:
        rows = []
        for problem in PROBLEMS:
            k, stable = condition_number(problem.formula, problem.x), problem.stable
            errors = [float32_error(problem.formula, problem.x), float32_error(stable, problem.x) if stable else ""]
            rows.append((problem.title, k, *errors))
        print_table(["problem", "condition number", "error in float32", "better formula"], rows)
        x = torch.linspace(-config.largest, config.largest, config.points)
        evaluations = {name: evaluate_both(name, x) for name in FORMULAS}
        worst = {
            name: [largest_error(evaluation, EXACT[name](x.double())) for evaluation in both]
            for name, both in evaluations.items()
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
            for name, (first, second) in evaluations.items()
        ]
        print_table(headings, rows)
        say("note", f"largest error, infinite or NaN gradients: {len(x)} inputs from {x[0]:g} to {x[-1]:g}, in float32")
        counts = count_failures(evaluations, x)
        kinds = [name.removeprefix("rewritten_") for name in counts if name.startswith("rewritten_")]
        rows = [
            (kind.replace("_", " "), *(f"{counts[f'{version}_{kind}']:,.0f}" for version in VERSIONS)) for kind in kinds
        ]
        print_table([f"of {len(evaluations) * len(x):,} values or gradients", "as written", "rewritten"], rows)
        say(
            "note",
            "false zero: 0 where the exact value is not 0; rounded to zero: the exact value is at least 1.2e-38",
        )
        report(run, x, evaluations)
        largest = max(second for _, second in worst.values())
        return run.finish(run={**counts, "points": len(evaluations) * len(x), "rewritten_largest_error": largest})


def report(run: Run, x: Tensor, evaluations: dict[str, tuple[Evaluation, Evaluation]]) -> None:
    """Draw values, gradients, magnitudes compared with the exact values, and the errors of two problems."""
    from common.drawing import plots

    for what in ("value", "gradient"):  # the rewritten line is visible where the other is infinite or NaN
        panels = {
            name: {"rewritten": (x, getattr(second, what)), "as written": (x, getattr(first, what))}
            for name, (first, second) in evaluations.items()
        }
        run.figure(f"{what}s", plots.line_panels(panels, columns=3, xlabel="x", ylabel=what))
    sizes = {
        name: {
            "exact, in float64": (x, exact_value_and_gradient(name, x)[0].abs()),
            "rewritten, in float32": (x, second.value.abs().where(second.value != 0, torch.nan)),
        }
        for name, (_, second) in evaluations.items()
    }
    run.figure("magnitudes", plots.line_panels(sizes, columns=3, xlabel="x", ylabel="|value|", log_y=True))
    run.figure("conditioning", draw_conditioning())


ROUNDOFF = 2.0**-24
"""Unit roundoff u of float32: maximum relative error of rounding."""


def draw_conditioning() -> "Figure":
    """Draw the float32 errors of an ill-conditioned problem and of an unstable formula, and the expected errors."""
    from common.drawing import plots

    logarithm, difference = PROBLEMS[0], PROBLEMS[3]
    assert difference.stable is not None
    gaps, inputs = torch.logspace(-6, 1, 36), torch.logspace(0, 7, 36)
    panels = {
        "log(x): ill-conditioned near 1": {
            "error as written": (
                gaps,
                [largest_float32_error(logarithm.formula, 1 + float(gap), float(gap)) for gap in gaps],
            ),
            "(k(x) + 1) u": (gaps, [expected_error(logarithm.formula, 1 + float(gap)) for gap in gaps]),
        },
        "sqrt(x + 1) - sqrt(x): unstable formula": {
            "error as written": (
                inputs,
                [largest_float32_error(difference.formula, float(x), float(x)) for x in inputs],
            ),
            "(k(x) + 1) u": (inputs, [expected_error(difference.formula, float(x)) for x in inputs]),
            "error of 1 / (sqrt(x + 1) + sqrt(x))": (
                inputs,
                [largest_float32_error(difference.stable, float(x), float(x)) for x in inputs],
            ),
        },
    }
    figure = plots.line_panels(panels, columns=2, ylabel="relative error", log_x=True, log_y=True, size=1.3)
    for axes, label in zip(figure.axes, ("x - 1", "x"), strict=True):
        axes.set_xlabel(label)
    return figure


def expected_error(function: Callable[[Any], Any], x: float) -> float:
    """Return (k(x) + 1) u: the expected relative error if the input and the result are rounded once each."""
    return (condition_number(function, x) + 1) * ROUNDOFF


def largest_float32_error(function: Callable[[Any], Any], x: float, gap: float) -> float:
    """Return the largest relative error in float32 at 40 inputs x + t gap with -0.1 <= t < 0.1."""
    return max(float32_error(function, x + gap * step / 200) for step in range(-20, 20))
