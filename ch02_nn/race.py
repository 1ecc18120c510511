"""Compare optimizers on Rosenbrock's function and on digits, each at the best learning rate of one grid.

    python -m ch02_nn.train race
    python -m ch02_nn.train race --goal 1e-6 --epochs 20

Every optimizer tries the same thirteen learning rates, 10^-4 ... 10^2 in half decades, and keeps the one with the
earliest first arrival: the first step at which the loss is at or below the goal. Ties are broken by the number of later
steps above the goal, then by the last loss. On Rosenbrock's function the choice is made on the function itself; on
digits on the validation split, with the mean over a few starts, and the chosen rate is then measured from other starts
on the test split. All other settings are torch's defaults.

First arrival and stability are two results. Stability is the number of steps after the first arrival at which the loss
is above the goal again.

Rosenbrock (1960): f(x, y) = (1 - x)² + 100 (y - x²)², with its minimum at (1, 1), at the end of a flat curved valley.
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
from common.progress import print_table, say
from common.run import Run

RATES = tuple(10.0 ** (power / 2) for power in range(-8, 5))
START = (-1.5, 2.0)
PIXELS = 14 * 14
"""Pixels of a digit after halving: the scans are 8x8, so 14x14 keeps their detail."""
EVERY = 5
"""Steps between two evaluations of the loss on digits."""


@dataclass(frozen=True)
class Config:
    """Goals and budgets of the comparison."""

    steps: int = 10_000
    """Number of steps on Rosenbrock's function."""
    goal: float = 1e-3
    """Target value of Rosenbrock's function."""
    epochs: int = 10
    """Training epochs on digits."""
    loss: float = 0.25
    """Target cross-entropy on digits, in nats per image."""
    hidden_size: int = 32
    """Hidden units of the classifier."""
    batch_size: int = 64
    """Batch size in images."""
    starts: int = 3
    """Initialisations on digits for choosing the learning rate, and as many others for measuring it."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "steps", "goal", "epochs", "loss", "hidden_size", "batch_size", "starts")


def rosenbrock(points: Tensor) -> Tensor:
    """(R, 2) points -> (R,) heights (1 - x)² + 100 (y - x²)²"""
    x, y = points.unbind(dim=-1)
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def rosenbrock_gradient(points: Tensor) -> Tensor:
    """(R, 2) points -> (R, 2): df/dx = -2 (1 - x) - 400 x (y - x²), df/dy = 200 (y - x²)"""
    x, y = points.unbind(dim=-1)
    return torch.stack([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)], dim=-1)


def descend(rule: str, rates: tuple[float, ...], steps: int, device: torch.device) -> Tensor:
    """Minimise Rosenbrock's function at every rate at once -> (T + 1, R, 2) positions; a divergent path ends in NaN."""
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
    """When a loss first reaches a goal, and how often it is above the goal afterwards."""

    first: float
    """Number of the first entry at or below the goal; infinite where no entry is."""
    above: int
    """Number of later entries above the goal."""


def arrival(values: list[float], goal: float) -> Arrival:
    """Find the first entry at or below the goal, and count the later ones above it; NaN counts as above."""
    for number, value in enumerate(values):
        if value <= goal:
            return Arrival(number, sum(not later <= goal for later in values[number:]))
    return Arrival(math.inf, 0)


def choose(walks: dict[float, list[list[float]]], goal: float) -> float:
    """Pick the rate with the earliest first arrival on average; ties by fewer later steps above, then by the last loss.

    A path that never arrives counts with its whole length.
    """

    def rank(rate: float) -> tuple[float, float, float]:
        found = [arrival(walk, goal) for walk in walks[rate]]
        first = sum(min(one.first, len(walk)) for one, walk in zip(found, walks[rate], strict=True))
        last = sum(walk[-1] if math.isfinite(walk[-1]) else math.inf for walk in walks[rate])
        return first, sum(one.above for one in found), last

    return min(walks, key=rank)


def halved(split: Split) -> Split:
    """(N, 1, 28, 28) -> (N, 1, 14, 14): each pixel the mean of four"""
    return Split(F.avg_pool2d(split.pixels.float(), 2).round().to(torch.uint8), split.labels)


def learn(rule: str, rate: float, start: int, data: tuple[Split, Split], run: Run) -> list[float]:
    """Train on the first split; return the loss on the second before the first step and after every fifth step."""
    config, (learned, watched) = run.config, data
    torch.manual_seed(start)
    model = Classifier((PIXELS, config.hidden_size, 10)).to(run.device)
    optimizer = OPTIMIZERS[rule](model.parameters(), lr=rate)
    order = torch.Generator().manual_seed(start)
    batches = Batches(learned.pixels, learned.labels, batch_size=config.batch_size, device=run.device, generator=order)
    inputs, labels = scaled(watched.pixels).to(run.device), watched.labels.to(run.device)
    losses, step = [], 0
    for _ in range(config.epochs):
        for images, classes in batches:
            if step % EVERY == 0:
                with torch.inference_mode():
                    losses.append(float(F.cross_entropy(model(inputs), labels)))
            train_step(model, optimizer, scaled(images), classes, bf16=run.bf16)
            step += 1
    return losses


def race_in_the_valley(run: Run) -> dict[str, tuple[float, Tensor, Arrival]]:
    """Return each rule's rate, path (T + 1, 2), and arrival."""
    config, found = run.config, {}
    for rule in OPTIMIZERS:
        paths = descend(rule, RATES, config.steps, run.device)
        heights = rosenbrock(paths).nan_to_num(math.inf, math.inf)
        columns = {rate: [heights[:, column].tolist()] for column, rate in enumerate(RATES)}
        rate = choose(columns, config.goal)
        found[rule] = (rate, paths[:, RATES.index(rate)], arrival(columns[rate][0], config.goal))
    return found


def race_on_digits(run: Run, data: ImageSet) -> dict[str, tuple[float, list[list[float]], list[Arrival]]]:
    """Return each rule's rate, and from each start the losses (one entry per EVERY steps) and the arrival."""
    config, found = run.config, {}
    learned, valid, test = halved(data.train), halved(data.valid), halved(data.test)
    for rule in OPTIMIZERS:
        first = config.run.seed * 2 * config.starts
        tried = {
            rate: [learn(rule, rate, first + start, (learned, valid), run) for start in range(config.starts)]
            for rate in RATES
        }
        rate = choose(tried, config.loss)
        others = range(first + config.starts, first + 2 * config.starts)
        losses = [learn(rule, rate, start, (learned, test), run) for start in others]
        arrivals = [arrival(path, config.loss) for path in losses]
        found[rule] = (rate, losses, arrivals)
        say(rule, f"learning rate {rate:.3g} on digits, first arrival at steps {[EVERY * a.first for a in arrivals]}")
    return found


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Run both comparisons; return first arrivals and stability (a path that never arrives counts its whole length)."""
    data = data or load_images("digits", limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        valley, digits = race_in_the_valley(run), race_on_digits(run, data)
        longest = EVERY * len(next(iter(digits.values()))[1][0])
        rows, metrics = [], {}
        for rule in OPTIMIZERS:
            rate, _, found = valley[rule]
            digits_rate, _, arrivals = digits[rule]
            mean = sum(min(EVERY * one.first, longest) for one in arrivals) / len(arrivals)
            above = EVERY * sum(one.above for one in arrivals) / len(arrivals)
            late = sum(math.isinf(one.first) for one in arrivals)
            missed = f" ({late} of {len(arrivals)} did not arrive)" if late else ""
            on_digits = f"{digits_rate:.2g}", f"{mean:.0f}{missed}", f"{above:.0f}"
            rows.append([rule, f"{rate:.2g}", written(found.first), str(found.above), *on_digits])
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


def written(steps: float) -> str:
    """Write the step of the first arrival, or that the goal was not reached."""
    return "not reached" if math.isinf(steps) else f"step {steps:.0f}"


def report(run: Run, valley: dict, digits: dict) -> None:
    """Draw the paths on Rosenbrock's function, the values along them, and the losses on digits from every start."""
    from common.drawing import plots

    x, y = torch.linspace(-2, 2, 161), torch.linspace(-1, 3, 161)
    heights = rosenbrock(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
    paths = {
        f"{rule}, learning rate {rate:.2g}\ngoal: {written(found.first)}": path
        for rule, (rate, path, found) in valley.items()
    }
    run.figure("valley", plots.contour_paths(x, y, heights, paths, goal=(1, 1), columns=3))
    starts = run.config.starts
    panels: dict[str, dict[str, plots.Line]] = {
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
