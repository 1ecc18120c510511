"""The book's graphs: values, generated Python code, and diagrams.

    python -m ch01_graphs.train expressions
    python -m ch01_graphs.train expressions --format svg

Each diagram is also written in Graphviz's DOT language (.dot).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ch01_graphs.draw import picture
from ch01_graphs.expression import Expression, formula
from ch01_graphs.gradient import grad
from ch01_graphs.graph import Graph
from ch01_graphs.machine import TapeMachine, format_value
from common.config import RunOptions
from common.drawing.graphs import module_picture, save
from common.progress import print_table, say
from common.run import Run

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Config:
    """Settings of the diagrams."""

    format: Literal["png", "svg", "pdf"] = "png"
    """File format of the diagrams, drawn by Graphviz if it is installed; .dot files are always written."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", threads=1, precision="fp32"))


def add_scalars() -> Expression:
    """Build a + b = 2.0 + 2.5 = 4.5."""
    graph = Graph()
    a, b = graph.scalar("a"), graph.scalar("b")
    c = (a + b).named("c")
    graph.let(a, 2.0)
    graph.let(b, 2.5)
    return c


def multiply_matrix() -> Expression:
    """Build W x = [9.4 3.4]."""
    graph = Graph()
    W = graph.parameter("W", torch.tensor([[0.9, 0.7], [0.4, 0.2]]))
    x = graph.vector("x", 2)
    y = (W @ x).named("y")
    graph.let(x, [5.0, 7.0])
    return y


def affine_map() -> Expression:
    """Build W x + 3.0 = [12.399999999999999 6.4] in float64."""
    graph = Graph()
    W = graph.parameter("W", torch.tensor([[0.9, 0.7], [0.4, 0.2]], dtype=torch.float64))
    x = graph.vector("x", 2, torch.float64)
    y = (W @ x + 3.0).named("y")
    graph.let(x, [5.0, 7.0])
    return y


def square_error() -> Expression:
    """Build the squared error (w x - y)^2 = 2.25 at w = 2, x = 3, y = 4.5, with its gradient with respect to w."""
    graph = Graph()
    w, x, y = graph.parameter("w", 2.0), graph.scalar("x"), graph.scalar("y")
    loss = ((w * x - y) ** 2).named("loss")
    grad(loss, [w])
    graph.let(x, 3.0)
    graph.let(y, 4.5)
    return loss


def multiply_mismatched_shapes() -> Expression:
    """Multiply a 2x2 matrix by a vector of 3 numbers: adding the node raises ValueError."""
    graph = Graph()
    W = graph.parameter("W", torch.tensor([[0.9, 0.7], [0.4, 0.2]]))
    return W @ graph.vector("x", 3)


GRAPHS: dict[str, Callable[[], Expression]] = {
    "sum": add_scalars,
    "product": multiply_matrix,
    "affine": affine_map,
    "square_error": square_error,
}


def train(config: Config) -> dict[str, float]:
    """Evaluate and draw the graphs; return their values."""
    with Run.open(__name__, config, arithmetic="fp32 and fp64") as run:
        rows, values = [], {}
        for name, build in GRAPHS.items():
            output = build()
            gradients = list(output.graph.gradients.values())
            records = TapeMachine(output, *gradients).records()
            save_picture(run, name, picture(output, *gradients, records=records, digits=None))
            value = output.graph.run(output)
            rows.append((name, formula(output), format_value(value)))
            values |= {f"{name}_{i}" if value.ndim else name: v for i, v in enumerate(value.flatten().tolist())}
        print_table(["graph", "formula", "value"], rows)
        affine = affine_map()
        print(f"code generated for affine:{affine.graph.program(affine).code.rstrip()}\n", flush=True)
        try:
            multiply_mismatched_shapes()
        except ValueError as error:
            say("error", str(error))
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        save_picture(run, "module", module_picture(network, torch.zeros(1, 4)))
        return run.finish(run=values)


def save_picture(run: Run, name: str, drawn: "nx.DiGraph") -> None:
    """Write a diagram as DOT text and in the format of --format."""
    for suffix in ("dot", run.config.format):
        with run.writing(f"{name}.{suffix}") as path:
            save(drawn, path)
