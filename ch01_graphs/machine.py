"""Two ways to run an expression graph: node by node with everything on record, or as one compiled function.

    records = TapeMachine(loss, dW).records()        # value, gradient, shape, bytes and seconds of every node
    step = compiled(loss, dW)                    # the same as one Python function: step(x=..., y=...)

Gorgonia's tape machine and torch.fx's Interpreter are the same idea: a list of instructions and a table of values.
Going through the list costs some Python at each node. `compiled` lets torch.fx write the list down as Python code once,
which leaves only the calls themselves.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ch01_graphs.expression import Expression, formula
from ch01_graphs.graph import check_value
from common.drawing.graphs import describe


@dataclass(frozen=True)
class Record:
    """What happened at one node."""

    name: str
    formula: str
    value: Tensor
    gradient: Tensor | None
    """Gradient of the loss in this node, where `grad` has added it and the machine has computed it."""
    bytes: int
    """Memory that the value takes; 0 where it is a view of an earlier one."""
    seconds: float
    backward: bool
    """Whether the node belongs to a gradient."""


class TapeMachine(fx.Interpreter):
    """Run the nodes that some expressions need, one after the other, and keep a record of each."""

    def __init__(self, *outputs: Expression) -> None:
        self.source = outputs[0].graph
        super().__init__(self.source.program(*outputs), garbage_collect_values=False)
        self._seconds: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one instruction; torch.fx calls this for every node in order."""
        start = time.perf_counter()
        value = super().run_node(n)
        self._seconds[n] = time.perf_counter() - start
        return value

    def values(self) -> tuple[Tensor, ...]:
        """Run everything from what `let` has bound; give the values of the expressions."""
        return self.run(*self.source.arguments(self.module))  # pyright: ignore[reportArgumentType]

    def records(self) -> list[Record]:
        """Run everything from what `let` has bound; give a record of each node."""
        self.values()
        nodes = [node for node in self.module.graph.nodes if node.op != "output"]  # pyright: ignore
        value_of = {node.meta["original"]: self.env[node] for node in nodes}
        records, storages = [], set[int]()
        for node in nodes:
            original, value = node.meta["original"], self.env[node]
            gradient = self.source.gradients.get(original)
            storage = value.untyped_storage()
            records.append(
                Record(
                    name=original.meta["name"],
                    formula=formula(Expression(self.source, original), depth=1),
                    value=value,
                    gradient=None if gradient is None else value_of.get(gradient.node),
                    bytes=0 if storage.data_ptr() in storages else storage.nbytes(),
                    seconds=self._seconds[node],
                    backward=original.meta["backward"],
                )
            )
            storages.add(storage.data_ptr())
        return records


def compiled(*outputs: Expression, inductor: bool = False) -> Callable[..., tuple[Tensor, ...]]:
    """Make one function of the graph: inputs by keyword, the expressions' values as a tuple.

    The function is Python code that torch.fx has generated (`graph.program(*outputs).code`); with `inductor` it goes
    through torch.compile, which turns it into machine code. Raises ValueError for missing, unknown or unfitting inputs
    at its first call, and after that trusts the caller.
    """
    graph = outputs[0].graph
    program = graph.program(*outputs)
    names = {node.target for node in program.graph.nodes if node.op == "placeholder"}
    run = torch.compile(program, fullgraph=True) if inductor else program.forward
    checked = False

    def call(**inputs: Tensor) -> tuple[Tensor, ...]:
        nonlocal checked
        if not checked:
            if inputs.keys() != names:
                raise ValueError(f"the function takes {', '.join(sorted(names))}, it got {', '.join(sorted(inputs))}")
            for name, value in inputs.items():
                check_value(graph.inputs[name], value)
            checked = True
        return run(**inputs)

    return call


def written(value: Tensor, digits: int | None = None) -> str:
    """Write a small value out, in as many digits as tell it apart or in so many; say what a large one is.

    The first gives `[12.399999999999999 6.4]`, the second with 4 digits `[12.4 6.4]`.
    """
    return _numbers(value.cpu().numpy(), digits) if value.numel() <= 6 else describe(value)


def _numbers(value: Any, digits: int | None) -> str:
    if value.ndim:
        return f"[{' '.join(_numbers(part, digits) for part in value)}]"
    return str(value) if digits is None else f"{value:.{digits}g}"
