"""Compare nine optimizers on Rosenbrock's function and on digits, each with its best learning rate of one grid.

    python -m ch02_nn.train compare_optimizers
    python -m ch02_nn.train compare_optimizers --goal 1e-6 --epochs 20

Every optimizer is run with the same thirteen learning rates, 10^-4, 10^-3.5, ..., 10^2. The learning rate with the
earliest arrival is chosen; arrival is the first step with a loss at or below the goal. Ties are broken by the number
of later steps above the goal, then by the last loss. On digits, the choice uses the validation set and a few starts
(random initialisations); the results are measured on the test set from other starts. All other options have torch's
defaults.

Two results are reported: the arrival, and the number of later steps with a loss above the goal (0: stable).

Rosenbrock's function (1960) is f(x, y) = (1 - x)² + 100 (y - x²)². Its minimum (1, 1) is in a curved valley with an
almost flat floor.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ch02_nn.classifier import Classifier, scaled, train_step
from ch02_nn.optimizers import OPTIMIZERS
from common.config import RunOptions, require_positive
from common.data.batches import Batches
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.device import widest_float
from common.progress import print_table, say, track
from common.run import Run

RATES = tuple(10.0 ** (power / 2) for power in range(-8, 5))
START = (-1.5, 2.0)
PIXELS = 14 * 14
"""Pixels of a halved image; the embedded digits were enlarged from 8x8 scans."""
EVERY = 5
"""Number of steps between evaluations of the loss on digits."""


@dataclass(frozen=True)
class Config:
    """Goals and budgets of the comparison."""

    steps: int = 10_000
    """Number of steps on Rosenbrock's function."""
    goal: float = 1e-3
    """Target value of Rosenbrock's function."""
    epochs: int = 10
    """Number of epochs on digits."""
    loss: float = 0.25
    """Target cross-entropy on digits, in nats per image."""
    hidden_size: int = 32
    """Number of hidden units of the classifier."""
    batch_size: int = 64
    """Batch size in images."""
    starts: int = 3
    """Number of random initialisations on digits to choose the learning rate, and of others for the results."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "steps", "goal", "epochs", "loss", "hidden_size", "batch_size", "starts")


def rosenbrock(points: Tensor) -> Tensor:
    """(..., 2) points -> (...) values (1 - x)² + 100 (y - x²)²"""
    x, y = points.unbind(dim=-1)
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def rosenbrock_gradient(points: Tensor) -> Tensor:
    """(..., 2) points -> (..., 2) gradients: df/dx = -2 (1 - x) - 400 x (y - x²), df/dy = 200 (y - x²)"""
    x, y = points.unbind(dim=-1)
    return torch.stack([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)], dim=-1)


def descend(rule: str, rates: tuple[float, ...], steps: int, device: torch.device) -> Tensor:
    """Minimise Rosenbrock's function with R learning rates at once -> (T + 1, R, 2) points; NaN after divergence."""
    kind = {"device": device, "dtype": widest_float(device)}
    points = torch.tensor([START], **kind).repeat(len(rates), 1).requires_grad_()
    optimizer = OPTIMIZERS[rule]([points], lr=torch.tensor(rates, **kind)[:, None])
    path = [points.detach().clone()]
    for _ in range(steps):
        points.grad = rosenbrock_gradient(points.detach())
        optimizer.step()
        path.append(points.detach().clone())
    return torch.stack(path).cpu()


@dataclass(frozen=True)
class Arrival:
    """First entry of a list of losses at or below the goal, and number of later entries above it."""

    first: float
    """Index of the first entry at or below the goal; infinity if there is none."""
    above: int
    """Number of later entries above the goal."""


def arrival(values: list[float], goal: float) -> Arrival:
    """Find the first entry at or below the goal and count the later entries above it; NaN counts as above."""
    for number, value in enumerate(values):
        if value <= goal:
            return Arrival(number, sum(not later <= goal for later in values[number:]))
    return Arrival(math.inf, 0)


def best_rate(runs: dict[float, list[list[float]]], goal: float) -> float:
    """Choose the learning rate with the earliest mean arrival, from the losses of several runs for each rate.

    Ties are broken by the number of later entries above the goal, then by the last loss. The arrival of a run that does
    not reach the goal is its length.
    """

    def rank(rate: float) -> tuple[float, float, float]:
        found = [arrival(losses, goal) for losses in runs[rate]]
        first = sum(min(one.first, len(losses)) for one, losses in zip(found, runs[rate], strict=True))
        last = sum(losses[-1] if math.isfinite(losses[-1]) else math.inf for losses in runs[rate])
        return first, sum(one.above for one in found), last

    return min(runs, key=rank)


def halved(split: Split) -> Split:
    """(N, 1, 28, 28) -> (N, 1, 14, 14) by 2x2 average pooling"""
    return Split(F.avg_pool2d(split.pixels.float(), 2).round().to(torch.uint8), split.labels)


def train_classifier(rule: str, rate: float, start: int, data: tuple[Split, Split], run: Run) -> list[float]:
    """Train on the first split; return the loss on the second split before steps 0, 5, 10, ..."""
    config, (training, evaluation) = run.config, data
    torch.manual_seed(start)
    model = Classifier((PIXELS, config.hidden_size, 10)).to(run.device)
    optimizer = OPTIMIZERS[rule](model.parameters(), lr=rate)
    order = torch.Generator().manual_seed(start)
    batches = Batches(
        training.pixels, training.labels, batch_size=config.batch_size, device=run.device, generator=order
    )
    inputs, labels = scaled(evaluation.pixels).to(run.device), evaluation.labels.to(run.device)
    losses, step = [], 0
    for _ in range(config.epochs):
        for images, classes in batches:
            if step % EVERY == 0:
                with torch.inference_mode():
                    losses.append(float(F.cross_entropy(model(inputs), labels)))
            train_step(model, optimizer, scaled(images), classes, bf16=run.bf16)
            step += 1
    return losses


def compare_on_rosenbrock(run: Run) -> dict[str, tuple[float, Tensor, Arrival]]:
    """Return for each optimizer its learning rate, its path (T + 1, 2), and its arrival."""
    config, found = run.config, {}
    for rule in OPTIMIZERS:
        paths = descend(rule, RATES, config.steps, run.device)
        values = rosenbrock(paths).nan_to_num(math.inf, math.inf)
        runs = {rate: [values[:, column].tolist()] for column, rate in enumerate(RATES)}
        rate = best_rate(runs, config.goal)
        found[rule] = (rate, paths[:, RATES.index(rate)], arrival(runs[rate][0], config.goal))
    return found


def compare_on_digits(run: Run, data: ImageSet) -> dict[str, tuple[float, list[list[float]], list[Arrival]]]:
    """Return for each optimizer its learning rate, and for each start its losses (every EVERY steps) and arrival."""
    config, found = run.config, {}
    training, valid, test = halved(data.train), halved(data.valid), halved(data.test)
    for rule in track(OPTIMIZERS, "optimizers"):
        first = config.run.seed * 2 * config.starts
        runs = {
            rate: [
                train_classifier(rule, rate, first + start, (training, valid), run) for start in range(config.starts)
            ]
            for rate in RATES
        }
        rate = best_rate(runs, config.loss)
        others = range(first + config.starts, first + 2 * config.starts)
        losses = [train_classifier(rule, rate, start, (training, test), run) for start in others]
        arrivals = [arrival(values, config.loss) for values in losses]
        found[rule] = (rate, losses, arrivals)
        say(rule, f"learning rate {rate:.3g} on digits, first arrival at steps {[EVERY * a.first for a in arrivals]}")
    return found


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Run both comparisons; return arrivals (the number of steps if the goal is not reached) and later steps above."""
    data = data or load_images("digits", limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        valley, digits = compare_on_rosenbrock(run), compare_on_digits(run, data)
        longest = EVERY * len(next(iter(digits.values()))[1][0])
        rows, metrics = [], {}
        for rule in OPTIMIZERS:
            rate, _, found = valley[rule]
            digits_rate, _, arrivals = digits[rule]
            mean = sum(min(EVERY * one.first, longest) for one in arrivals) / len(arrivals)
            above = EVERY * sum(one.above for one in arrivals) / len(arrivals)
            missed = sum(math.isinf(one.first) for one in arrivals)
            note = f" ({missed} of {len(arrivals)} did not arrive)" if missed else ""
            on_digits = f"{digits_rate:.2g}", f"{mean:.0f}{note}", f"{above:.0f}"
            rows.append([rule, f"{rate:.2g}", format_arrival(found.first), str(found.above), *on_digits])
            name = rule.replace("-", "_")
            metrics |= {
                f"{name}_valley_learning_rate": rate,
                f"{name}_valley_arrival_steps": min(found.first, float(config.steps)),
                f"{name}_valley_later_steps_above": float(found.above),
                f"{name}_digits_learning_rate": digits_rate,
                f"{name}_digits_arrival_steps": mean,
                f"{name}_digits_later_steps_above": above,
            }
        headings = ["optimizer", "rate, Rosenbrock", f"value {config.goal:g}", "later steps above"]
        headings += ["rate, digits", f"step at loss {config.loss:g}", "later steps above"]
        print_table(headings, rows)
        report(run, valley, digits)
        return run.finish(run=metrics)


def format_arrival(steps: float) -> str:
    """Format the step of the arrival."""
    return "not reached" if math.isinf(steps) else f"step {steps:.0f}"


def report(run: Run, valley: dict, digits: dict) -> None:
    """Draw the paths on Rosenbrock's function, the values along them, and the losses on digits from every start."""
    from common.drawing import plots

    x, y = torch.linspace(-2, 2, 161), torch.linspace(-1, 3, 161)
    heights = rosenbrock(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
    paths = {
        f"{rule}, learning rate {rate:.2g}\ngoal: {format_arrival(found.first)}": path
        for rule, (rate, path, found) in valley.items()
    }
    run.figure("valley", plots.contour_paths(x, y, heights, paths, goal=(1, 1), columns=3))
    starts = run.config.starts
    panels: dict[str, dict[str, plots.Line]] = {  # steps are shown from 1, because the axis is logarithmic
        "Rosenbrock's function: value": {
            rule: (range(1, len(path) + 1), rosenbrock(path).clamp(min=1e-12)) for rule, (_, path, _) in valley.items()
        },
        f"Digits: test cross-entropy, mean of {starts} starts": {
            rule: (range(1, EVERY * len(losses[0]) + 1, EVERY), torch.tensor(losses).mean(dim=0))
            for rule, (_, losses, _) in digits.items()
        },
    }
    run.figure("losses", plots.line_panels(panels, columns=2, xlabel="step", log_x=True, log_y=True, size=1.5))
    every_start: dict[str, dict[str, plots.Line]] = {}
    for rule, (rate, losses, _) in digits.items():
        at = range(0, EVERY * len(losses[0]), EVERY)
        lines: dict[str, plots.Line] = {
            f"start {number}": (at, values) for number, values in enumerate(losses, start=1)
        }
        every_start[f"{rule}, learning rate {rate:.2g}"] = lines | {"goal": ((0, at[-1]), (run.config.loss,) * 2)}
    drawn = plots.line_panels(
        every_start, columns=3, xlabel="step", ylabel="test cross-entropy", log_y=True, share_y=True
    )
    run.figure("digits", drawn)
