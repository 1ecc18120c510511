"""The race of the optimizers: down Rosenbrock's curved valley, and on digits, each at the best rate of one grid.

    python -m ch02_nn.train race
    python -m ch02_nn.train race --goal 1e-6 --epochs 20

Every rule gets the same thirteen learning rates, 10^-4 ... 10^2 by half decades, and keeps the one that needs the
fewest steps to get below the goal and stay there (or else ends closest): in the valley itself, on digits by the
validation split, on average over a few starts. The race on digits is then run from other starts and timed on the test
split. Everything else stays at torch's defaults.

Rosenbrock (1960): f(x, y) = (1 - x)² + 100 (y - x²)², lowest at (1, 1), at the end of a flat curved valley.
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
"""The digits are halved: their scans are 8x8, and the race is about the rules."""
EVERY = 5
"""Steps from one look at the loss on digits to the next."""


@dataclass(frozen=True)
class Config:
    """The goals, and how long the way may be."""

    steps: int = 10_000
    """Steps down the valley."""
    goal: float = 1e-3
    """Height to reach in the valley."""
    epochs: int = 10
    """Passes over the digits."""
    loss: float = 0.25
    """Cross-entropy to reach on digits, in nats an image."""
    hidden_size: int = 32
    """Hidden units of the classifier."""
    batch_size: int = 64
    """Images a step."""
    starts: int = 3
    """Starts on digits from which a rate is chosen, and as many others from which the race is run."""
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
    """Walk down the valley at every rate at once -> (T + 1, R, 2) positions; a walk may end in no number."""
    kind = {"device": device, "dtype": widest_float(device)}
    points = torch.tensor([START], **kind).repeat(len(rates), 1).requires_grad_()
    optimizer = OPTIMIZERS[rule]([points], lr=torch.tensor(rates, **kind)[:, None])
    path = [points.detach().clone()]
    for _ in range(steps):
        points.grad = rosenbrock_gradient(points.detach())
        optimizer.step()
        path.append(points.detach().clone())
    return torch.stack(path).cpu()


def steps_to(values: list[float], goal: float) -> float:
    """Count the entries up to the last one above the goal: from there on it is kept; infinite where it is not."""
    above = [number for number, value in enumerate(values) if not value <= goal]  # NaN is above
    if not above:
        return 0.0
    return above[-1] + 1.0 if above[-1] + 1 < len(values) else math.inf


def choose(walks: dict[float, list[list[float]]], goal: float) -> float:
    """Pick the rate whose walks need the fewest steps to the goal on average, or else end closest to it."""

    def rank(rate: float) -> tuple[float, float]:
        steps = sum(min(steps_to(walk, goal), len(walk)) for walk in walks[rate])
        return steps, sum(walk[-1] if math.isfinite(walk[-1]) else math.inf for walk in walks[rate])

    return min(walks, key=rank)


def halved(split: Split) -> Split:
    """(N, 1, 28, 28) -> (N, 1, 14, 14): each pixel the mean of four"""
    return Split(F.avg_pool2d(split.pixels.float(), 2).round().to(torch.uint8), split.labels)


def learn(rule: str, rate: float, start: int, data: tuple[Split, Split], run: Run) -> list[float]:
    """Train on the first split and give the loss on the second before the first step and after every fifth."""
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


def race_in_the_valley(run: Run) -> dict[str, tuple[float, Tensor, float]]:
    """Give each rule's rate, path (T + 1, 2) and steps to the goal."""
    config, found = run.config, {}
    for rule in OPTIMIZERS:
        paths = descend(rule, RATES, config.steps, run.device)
        heights = rosenbrock(paths).nan_to_num(math.inf, math.inf)
        columns = {rate: [heights[:, column].tolist()] for column, rate in enumerate(RATES)}
        rate = choose(columns, config.goal)
        found[rule] = (rate, paths[:, RATES.index(rate)], steps_to(columns[rate][0], config.goal))
    return found


def race_on_digits(run: Run, data: ImageSet) -> dict[str, tuple[float, list[list[float]], list[float]]]:
    """Give each rule's rate, the losses of each start, and its steps to the goal from each."""
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
        found[rule] = (rate, losses, [EVERY * steps_to(path, config.loss) for path in losses])
        say(rule, f"rate {rate:.3g} on digits, {found[rule][2]} steps")
    return found


def train(config: Config, data: ImageSet | None = None) -> dict[str, float]:
    """Run both races and return every rule's steps; one that did not arrive counts as the whole way."""
    data = data or load_images("digits", limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        valley, digits = race_in_the_valley(run), race_on_digits(run, data)
        longest = float(EVERY * len(next(iter(digits.values()))[1][0]))
        rows, metrics = [], {}
        for rule in OPTIMIZERS:
            rate, _, steps = valley[rule]
            digits_rate, _, counts = digits[rule]
            mean = sum(min(count, longest) for count in counts) / len(counts)
            late = sum(math.isinf(count) for count in counts)
            missed = f" ({late} of {len(counts)} did not arrive)" if late else ""
            rows.append([rule, f"{rate:.2g}", arrival(steps), f"{digits_rate:.2g}", f"{mean:.0f}{missed}"])
            name = rule.replace("-", "_")
            metrics |= {f"{name}_valley_learning_rate": rate, f"{name}_valley_steps": min(steps, float(config.steps))}
            metrics |= {f"{name}_digits_learning_rate": digits_rate, f"{name}_digits_steps": mean}
        headings = ["rule", "rate in the valley", f"steps to {config.goal:g}"]
        print_table([*headings, "rate on digits", f"steps to loss {config.loss:g}"], rows)
        report(run, valley, digits)
        return run.finish(run=metrics)


def arrival(steps: float) -> str:
    """Write a number of steps, or that it was never reached."""
    return "not reached" if math.isinf(steps) else f"{steps:.0f}"


def report(run: Run, valley: dict, digits: dict) -> None:
    """Draw the paths down the valley, the heights along them, and the losses on digits."""
    from common.drawing import plots

    x, y = torch.linspace(-2, 2, 161), torch.linspace(-1, 3, 161)
    heights = rosenbrock(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
    paths = {f"{rule}, {rate:.2g}: {arrival(steps)}": path for rule, (rate, path, steps) in valley.items()}
    run.figure("valley", plots.contour_paths(x, y, heights, paths, goal=(1, 1), columns=3))
    panels: dict[str, dict[str, plots.Line]] = {"Rosenbrock: height": {}, "digits: test cross-entropy": {}}
    falls, learning = panels.values()
    for rule, (_, path, _) in valley.items():
        falls[rule] = (range(1, len(path) + 1), rosenbrock(path).clamp(min=1e-12))
    for rule, (_, losses, _) in digits.items():
        learning[rule] = (range(1, EVERY * len(losses[0]) + 1, EVERY), losses[0])
    run.figure("losses", plots.line_panels(panels, columns=2, xlabel="step", log_x=True, log_y=True, size=1.5))
