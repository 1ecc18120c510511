"""Linear regression by the book's ten steps, and the speed of several variants of the training step.

    python -m ch01_graphs.train regression
    python -m ch01_graphs.train regression --machine tape
    python -m ch01_graphs.train regression --compile          # include torch.compile in the comparison

Dimensions: N samples, D features.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, fx

from ch01_graphs.autodiff import Variable
from ch01_graphs.draw import picture
from ch01_graphs.expression import Expression
from ch01_graphs.gradient import grad
from ch01_graphs.graph import Graph, ancestors
from ch01_graphs.machine import TapeMachine, compiled, format_value
from ch01_graphs.simplify import Rewrite, simplify
from common.benchmark import Workload, interleaved, median_ratio
from common.config import RunOptions, read_config, require, require_positive
from common.device import Timer
from common.drawing.graphs import save
from common.progress import print_table, say
from common.run import Run, load_weights


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the regression."""

    samples: int = 500
    """Number of samples of y = X w + b + noise with normal X, w and b."""
    features: int = 4
    """Features per sample."""
    noise: float = 0.1
    """Standard deviation of the noise."""
    epochs: int = 5
    """Number of epochs; the loss is printed after each."""
    steps: int = 100
    """Gradient steps per epoch; each step uses all samples."""
    learning_rate: float = 0.1
    """Learning rate of gradient descent."""
    machine: Literal["compiled", "tape"] = "compiled"
    """Execution of the graph: one generated Python function (compiled), or node by node (tape)."""
    compile: bool = False
    """Include torch.compile in the speed comparison; compilation takes additional time."""
    rounds: int = 7
    """Number of timing rounds after a warm-up round; every variant is timed once per round."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "samples", "features", "epochs", "steps", "learning_rate", "rounds")
        require(self.noise >= 0, "--noise must not be negative", self.noise)

    @property
    def sample_count(self) -> int:
        """Return the number of samples N: the smaller one of --samples and --limit."""
        return min(self.samples, self.run.limit or self.samples)


@dataclass(frozen=True)
class Regression:
    """Parameters, and graph of the loss and its gradients."""

    w: Tensor
    b: Tensor
    outputs: list[Expression]
    """loss, dL/dw, dL/db, simplified"""
    unsimplified: list[Expression]
    """The same expressions as built by `grad`."""
    rewrites: list[Rewrite]

    @property
    def program(self) -> fx.GraphModule:
        """Return the graph as a torch.fx module; its buffers are the parameters."""
        return self.outputs[0].graph.program(*self.outputs)


def build(config: Config, device: torch.device | str = "cpu") -> Regression:
    """Build the graph of the regression by the book's steps."""
    graph = Graph(device)  # 1. a graph
    X = graph.matrix("X", config.sample_count, config.features)  # 2. nodes for the inputs
    y = graph.vector("y", config.sample_count)
    w = graph.parameter("w", torch.zeros(config.features))  # 3. nodes for the parameters
    b = graph.parameter("b", 0.0)
    prediction = (X @ w + b).named("prediction")  # 4. the forward expression
    loss = ((prediction - y) ** 2).mean().named("loss")  # 5. the loss
    outputs = [loss, *grad(loss, [w, b])]  # 6. gradients
    simpler = simplify(*outputs)
    return Regression(graph.value(w), graph.value(b), simpler.outputs, outputs, simpler.rewrites)


def count_nodes(outputs: list[Expression]) -> int:
    """Count the nodes that the outputs depend on."""
    return len(ancestors([output.node for output in outputs]))


def make_machine(regression: Regression, kind: str) -> Callable[..., tuple[Tensor, ...]]:
    """Build a function that takes X and y by keyword and returns the loss and its gradients."""
    # 7. a machine
    if kind != "tape":
        return compiled(*regression.outputs, inductor=kind == "inductor")
    machine = TapeMachine(*regression.outputs)

    def run(X: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        machine.source.let("X", X)  # 8. values for the inputs
        machine.source.let("y", y)
        return machine.values()  # 9. run all

    return run


def train_step(machine: Callable, regression: Regression, X: Tensor, y: Tensor, learning_rate: float) -> Tensor:
    """Take one step of gradient descent; return the loss."""
    loss, dw, db = machine(X=X, y=y)
    regression.w.sub_(dw, alpha=learning_rate)  # 10. the optimizer step, the book's solver
    regression.b.sub_(db, alpha=learning_rate)
    return loss


def make_data(config: Config) -> tuple[Tensor, Tensor]:
    """Sample (N, D) inputs and (N,) targets with the random seed of the run."""
    generator = torch.Generator().manual_seed(config.run.seed)
    samples = torch.randn(config.sample_count, config.features, generator=generator)
    w, b = torch.randn(config.features, generator=generator), torch.randn((), generator=generator)
    return samples, samples @ w + b + config.noise * torch.randn(config.sample_count, generator=generator)


def closed_form(X: Tensor, y: Tensor) -> Tensor:
    """Solve the least-squares problem exactly: (N, D), (N,) -> (D + 1,) weights, the bias last"""
    ones = torch.ones(len(X), 1, dtype=torch.float64)
    return torch.linalg.lstsq(torch.cat([X.cpu().double(), ones], dim=1), y.cpu().double()[:, None]).solution[:, 0]


# Variants of the same training step.


def eager_step(config: Config, X: Tensor, y: Tensor) -> Callable[[], Any]:
    """Build a training step with PyTorch's autograd."""
    w = torch.zeros(config.features, device=X.device, requires_grad=True)
    b = torch.zeros((), device=X.device, requires_grad=True)

    def step() -> None:
        loss = ((X @ w + b - y) ** 2).mean()
        dw, db = torch.autograd.grad(loss, (w, b))
        with torch.no_grad():
            w.sub_(dw, alpha=config.learning_rate)
            b.sub_(db, alpha=config.learning_rate)

    return step


def dynamic_tape_step(config: Config, X: Tensor, y: Tensor) -> Callable[[], Any]:
    """Build a training step with the dynamic tape of `autodiff.py`."""
    samples, targets = Variable(X), Variable(y[:, None])
    w, b = Variable(torch.zeros(config.features, 1, device=X.device)), Variable(torch.zeros((), device=X.device))

    def step() -> None:
        loss = ((samples @ w + b - targets) ** 2).sum() / len(y)
        loss.backward()
        for parameter in (w, b):
            parameter.value.sub_(parameter.gradient, alpha=config.learning_rate)
            parameter.gradient = torch.zeros_like(parameter.value)

    return step


def graph_step(config: Config, X: Tensor, y: Tensor, kind: str) -> Callable[[], Tensor]:
    """Build a training step with a graph: `kind` is compiled, tape or inductor (torch.compile)."""
    regression = build(config, X.device)
    machine = make_machine(regression, kind)
    return lambda: train_step(machine, regression, X, y, config.learning_rate)


def time_steps(config: Config, X: Tensor, y: Tensor, *, bf16: bool = False, steps: int = 300) -> dict[str, list[float]]:
    """Time the variants of the training step interleaved; return their steps per second in each round."""
    variants = {
        "eager": eager_step(config, X, y),
        "compiled": graph_step(config, X, y, "compiled"),
        "tape": graph_step(config, X, y, "tape"),
        "dynamic_tape": dynamic_tape_step(config, X, y),
    }
    if config.compile:
        variants["inductor"] = graph_step(config, X, y, "inductor")

    def speed(step: Callable[[], Any]) -> float:
        # The autocast cache would return bf16 copies of the weights from before the last update.
        autocast = torch.autocast(X.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)
        with autocast, Timer(X.device) as timer:
            for _ in range(steps):
                step()
        return steps / timer.seconds

    return interleaved(variants, config.rounds, speed, quiet=True)


def train(config: Config) -> dict[str, float]:
    """Fit the regression; return its error, its distance from the exact solution, and the speed of each variant."""
    with Run.open(__name__, config) as run:
        X, y = (tensor.to(run.device) for tensor in make_data(config))
        regression = build(config, run.device)
        machine = make_machine(regression, config.machine)
        for _ in run.epochs(config.epochs, config.steps, program=regression.program):
            for _ in range(config.steps):
                with torch.autocast(run.device.type, torch.bfloat16, enabled=run.bf16):
                    loss = train_step(machine, regression, X, y, config.learning_rate)
                run.step(loss, samples=config.sample_count)
            run.log()
        run.save(regression.program)
        exact = closed_form(X, y)
        learned = torch.cat([regression.w, regression.b[None]]).cpu().double()
        distance = float((learned - exact).abs().max())
        speeds = time_steps(config, X, y, bf16=run.bf16)
        ratios = {name: median_ratio(values, speeds["eager"]) for name, values in speeds.items()}
        report(run, regression, X, y)
        rows = [(name, statistics.median(speeds[name]), ratios[name]) for name in speeds]
        print_table(["variant", "steps/s", "relative to eager"], rows)
        draw_speeds(run, ratios)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.bf16):
            mse = float(machine(X=X, y=y)[0])
        return run.finish(
            run={
                "mse": mse,
                "nodes_as_written": count_nodes(regression.unsimplified),
                "nodes_simplified": count_nodes(regression.outputs),
                "distance_from_exact": distance,
                **{f"{name}_steps_per_second": statistics.median(values) for name, values in speeds.items()},
                **{f"{name}_ratio": ratio for name, ratio in ratios.items() if name != "eager"},
            }
        )


def report(run: Run, regression: Regression, X: Tensor, y: Tensor) -> None:
    """Print value, memory and time of each node, and the rewrites; draw the graphs and the learning curve."""
    from common.drawing import plots

    graph = regression.outputs[0].graph
    graph.let("X", X)
    graph.let("y", y)
    machine = TapeMachine(*regression.outputs)
    machine.values()  # warm-up
    records = machine.records()
    rows = [(r.name, r.formula, format_value(r.value, 3), f"{r.bytes:,}", f"{r.seconds * 1e6:.1f}") for r in records]
    print_table(["node", "formula", "value", "bytes", "microseconds"], rows)
    for rewrite in regression.rewrites:
        say("rewrite", str(rewrite))
    for name, drawn in (
        ("graph", picture(*regression.outputs, records=records)),
        ("graph_as_written", picture(*regression.unsimplified)),
    ):
        for suffix in ("dot", "png"):
            with run.writing(f"{name}.{suffix}") as path:
                save(drawn, path)
    run.figure("curve", plots.curves(run.history, {"mean squared error": ["train_loss"]}, log=True))


NAMES = {
    "eager": "autograd (eager)",
    "compiled": "compiled function",
    "tape": "tape machine",
    "dynamic_tape": "dynamic tape",
    "inductor": "torch.compile",
}


def draw_speeds(run: Run, ratios: dict[str, float]) -> None:
    """Draw the speed of each variant relative to autograd."""
    from common.drawing import plots

    title = "Speed of a training step, relative to autograd"
    names = [NAMES[name] for name in ratios]
    run.figure("speeds", plots.bars(names, [*ratios.values()], title=title, label="steps per second, autograd = 1"))


def restore(folder: Path) -> tuple[Regression, Config]:
    """Load the regression and the Config of a run folder."""
    config = read_config(folder, Config)
    regression = build(config)
    load_weights(regression.program, folder)
    return regression, config


def workload(config: Config, device: torch.device) -> Workload:
    """Return the training step for the device benchmark."""
    X, y = (tensor.to(device) for tensor in make_data(config))
    take_step = graph_step(config, X, y, config.machine)

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.run.precision == "bf16"):
            return take_step()

    return Workload(step, items=config.sample_count, unit="samples")
