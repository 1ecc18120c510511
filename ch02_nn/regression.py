"""Linear regression by six solvers: a line, and a cubic with and without scaled inputs.

    python -m ch02_nn.train regression

The model is y' = A w, where A has a column of ones, and the loss L = mean (A w - y)². Setting the gradient
2 A^T (A w - y) / N to zero gives the normal equations A^T A w = A^T y, which have a closed form. Gradient descent
approaches the same w; the number of steps grows with the condition number k of A^T A, because each step multiplies the
error along the eigenvector of the smallest eigenvalue by 1 - 1/k. For the cubic with inputs i and i², k is about 2e8
without scaling, and 63 if the inputs have mean 0 and standard deviation 1. The learning rate is not tuned: it is
the inverse of the largest curvature of the loss.

Dimensions: N samples, B batch, F features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch02_nn.schedules import cosine
from common.config import RunOptions, require, require_positive
from common.data.source import DataCard, sha256_of
from common.device import widest_float
from common.progress import print_table
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUE_WEIGHTS = (1.0, 2.0, -3.0, 0.5)
"""True weights of the line: constant, and one weight per input."""


@dataclass(frozen=True)
class Config:
    """Data, number of steps, and batch size."""

    samples: int = 200
    """Number of samples of the line; the cubic has i = 1 ... 100."""
    noise: float = 0.5
    """Standard deviation of the noise of the line."""
    steps: int = 4_000
    """Number of steps of gradient descent, of SGD, and of minibatch SGD."""
    batch_size: int = 10
    """Samples per minibatch."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "samples", "steps", "batch_size")
        for number, name in ((self.samples, "--samples"), (self.run.limit or self.samples, "--limit")):
            require(number >= 5, f"{name} must be at least 5 to determine 4 weights", number)
        require(0 <= self.noise < float("inf"), "--noise must be a finite number of at least 0", self.noise)


def line(samples: int, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample (N, 3) inputs; compute (N,) targets with the true weights and noise."""
    x = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor(TRUE_WEIGHTS[1:], dtype=torch.float64) + TRUE_WEIGHTS[0]
    return x, y + noise * torch.randn(samples, generator=generator, dtype=torch.float64)


def cubic(count: int = 100) -> tuple[Tensor, Tensor]:
    """Return (N, 2) inputs (i, i²) and (N,) targets i³ for i = 1 ... N."""
    i = torch.arange(1, count + 1, dtype=torch.float64)
    return torch.stack([i, i**2], dim=1), i**3


def standardised(x: Tensor) -> Tensor:
    """(N, F) -> (N, F) with mean 0 and standard deviation 1 per column; raises ValueError for a constant column."""
    deviation = x.std(dim=0)
    if bool((deviation == 0).any()):
        raise ValueError(f"input {int((deviation == 0).nonzero()[0])} is constant and cannot be scaled: remove it")
    return (x - x.mean(dim=0)) / deviation


def add_constant(x: Tensor) -> Tensor:
    """(N, F) -> (N, 1 + F): prepend a column of ones, whose weight is the constant."""
    return torch.cat([torch.ones_like(x[:, :1]), x], dim=1)


def r_squared(a: Tensor, y: Tensor, w: Tensor) -> float:
    """R² = 1 - sum (y - A w)² / sum (y - mean y)²: the explained fraction of the variance"""
    return 1 - float((y - a @ w).square().sum() / (y - y.mean()).square().sum())


# Closed forms.


def normal_equations(a: Tensor, y: Tensor) -> Tensor:
    """Solve A^T A w = A^T y; the condition number of A^T A is the square of that of A."""
    return torch.linalg.solve(a.mT @ a, a.mT @ y)


def by_qr(a: Tensor, y: Tensor) -> Tensor:
    """Factorise A = Q R with Q^T Q = I and solve R w = Q^T y; the condition number of R is that of A."""
    q, r = torch.linalg.qr(a)
    return torch.linalg.solve_triangular(r, (q.mT @ y)[:, None], upper=True)[:, 0]


def by_lstsq(a: Tensor, y: Tensor) -> Tensor:
    """Solve the least-squares problem by torch.linalg.lstsq."""
    return torch.linalg.lstsq(a, y[:, None]).solution[:, 0]


# Gradient methods.


def gradient(a: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """dL/dw = 2 A^T (A w - y) / N"""
    return 2 * a.mT @ (a @ w - y) / len(y)


def gradient_descent(a: Tensor, y: Tensor, steps: int) -> Iterator[Tensor]:
    """Yield w after each step from 0, with learning rate 1 / (largest eigenvalue of 2 A^T A / N)."""
    curvature = torch.linalg.eigvalsh(2 * a.mT @ a / len(y))[-1]
    w = torch.zeros_like(a[0])
    for _ in range(steps):
        w = w - gradient(a, y, w) / curvature
        yield w


def stochastic_descent(
    a: Tensor, y: Tensor, steps: int, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield w after each step from 0 on a random batch; the learning rate follows a cosine from 1 / (2 max |a_i|²).

    The curvature of the loss of a batch is at most 2 max |a_i|². With a constant rate, the noise would not vanish.
    """
    largest = float(1 / (2 * a.square().sum(dim=1).max()))
    w, step = torch.zeros_like(a[0]), 0
    while step < steps:
        for batch in torch.randperm(len(y), generator=generator).to(a.device).split(batch_size)[: steps - step]:
            w = w - cosine(step, steps, largest) * gradient(a[batch], y[batch], w)
            step += 1
            yield w


def solutions(a: Tensor, y: Tensor, config: Config, generator: torch.Generator) -> dict[str, list[Tensor]]:
    """Run all solvers; return w after every step of each. The last one is the result."""
    return {
        "normal equations": [normal_equations(a, y)],
        "QR": [by_qr(a, y)],
        "lstsq": [by_lstsq(a, y)],
        "gradient descent": list(gradient_descent(a, y, config.steps)),
        "SGD": list(stochastic_descent(a, y, config.steps, 1, generator)),
        "minibatch": list(stochastic_descent(a, y, config.steps, config.batch_size, generator)),
    }


def train(config: Config) -> dict[str, float]:
    """Fit the line, and the cubic with and without scaling, by all solvers; return R² and condition numbers."""
    generator = torch.Generator().manual_seed(config.run.seed)
    x, y = line(min(config.samples, config.run.limit or config.samples), config.noise, generator)
    i, cubes = cubic()
    sizes = f"{len(y)} points of a planted line, and the cubes of 1 ... {len(cubes)}, made in regression.py"
    with Run.open(
        __name__, config, DataCard("line-and-cubic", True, sha256_of(x, y, i, cubes), sizes), arithmetic="fp64"
    ) as run:
        problems = {"line": (x, y), "cubic": (standardised(i), cubes), "cubic, not scaled": (i, cubes)}
        kind = {"device": run.device, "dtype": widest_float(run.device)}
        rows, metrics, gaps, fits = [], {}, {}, {}
        for name, (inputs, targets) in problems.items():
            a, t = add_constant(inputs).to(**kind), targets.to(**kind)
            condition = float(torch.linalg.cond(a.mT @ a))
            found = solutions(a, t, config, run.generator)
            scores = {solver: r_squared(a, t, path[-1]) for solver, path in found.items()}
            rows.append([name, *(f"{r2:.6f}" for r2 in scores.values()), f"{condition:.3g}"])
            prefix = name.replace(", not ", "_un").replace(" ", "_")
            metrics |= {f"{prefix}_{solver.lower().replace(' ', '_')}_r2": r2 for solver, r2 in scores.items()}
            metrics[f"{prefix}_condition"] = condition
            shown = sorted({int(1.1**power) for power in range(200) if 1.1**power <= config.steps})
            gaps[name] = {
                solver: (shown, [max(scores["lstsq"] - r_squared(a, t, path[step - 1]), 1e-15) for step in shown])
                for solver, path in found.items()
                if len(path) == config.steps > 1
            }
            fits[name] = {solver: (a @ found[solver][-1]).cpu() for solver in ("gradient descent", "lstsq")}
        print_table(["R²", *scores, "condition"], rows)
        report(run, gaps, fits)
        return run.finish(run=metrics)


def report(run: Run, gaps: dict, fits: dict[str, dict[str, Tensor]]) -> None:
    """Draw the R² gap of the gradient methods to the closed form, and the fitted cubics."""
    from common.drawing import plots

    gap = "R² gap to the closed form"
    run.figure("gaps", plots.line_panels(gaps, columns=3, xlabel="step", ylabel=gap, log_x=True, log_y=True))
    run.figure("cubic", draw_fits({name: fit for name, fit in fits.items() if name.startswith("cubic")}))


def draw_fits(fits: dict[str, dict[str, Tensor]]) -> "Figure":
    """Draw the fitted cubics with the data."""
    from common.drawing import plots

    i, cubes = cubic()
    panels = {name: {solver: (i[:, 0], fit) for solver, fit in fit_of.items()} for name, fit_of in fits.items()}
    dots = {name: {"i³": (i[::4, 0], cubes[::4])} for name in fits}
    return plots.line_panels(panels, columns=2, xlabel="i", dots=dots)
