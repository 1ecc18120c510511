"""Diagrams of expression graphs with shapes, and optionally with recorded values and gradients.

    save(picture(loss, dW), Path("loss.svg"))
    save(picture(loss, dW, records=TapeMachine(loss, dW).records()), Path("loss.svg"))

Nodes of a gradient have a colour of their own. `common/drawing/graphs.py` writes a diagram as DOT text or as an image,
and builds diagrams of any `nn.Module`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import fx

from ch01_graphs.expression import INFIX, Expression
from ch01_graphs.graph import ancestors
from ch01_graphs.machine import Record, format_value
from common.drawing.graphs import describe

if TYPE_CHECKING:
    import networkx as nx


def picture(*outputs: Expression, records: Sequence[Record] = (), digits: int | None = 4) -> "nx.DiGraph":
    """Build the diagram of the nodes that the outputs depend on; records add values and gradients."""
    import networkx as nx

    graph, seen = nx.DiGraph(), {record.name: record for record in records}
    needed = ancestors([output.node for output in outputs])
    for node in outputs[0].graph.ir.nodes:
        if node not in needed:
            continue
        name = node.meta["name"]
        kind = {"placeholder": "input", "call_function": "operation"}.get(node.op) or node.meta["kind"]
        if node.meta["backward"]:
            kind = "gradient"
        lines = [_title(node), describe(node.meta["value"])]
        if name in seen:
            record = seen[name]
            if record.value.numel() <= 6:
                lines.append(f"= {format_value(record.value, digits)}")
            if record.gradient is not None and record.gradient.numel() <= 6:
                lines.append(f"gradient {format_value(record.gradient, digits)}")
        graph.add_node(name, lines=lines, kind=kind)
        for operand in node.all_input_nodes:
            graph.add_edge(operand.meta["name"], name, backward=node.meta["backward"])
    return graph


def _title(node: fx.Node) -> str:
    """Format the title of a node: its name, operator and numeric operands."""
    name = node.meta["name"]
    if node.op != "call_function":
        return name
    symbol = INFIX.get(node.target) or node.target.__name__.strip("_")  # pyright: ignore
    numbers = [f"{arg:g}" for arg in node.args if isinstance(arg, (int, float)) and not isinstance(arg, bool)]
    if numbers and node.target in INFIX:
        symbol = f"{numbers[0]} {symbol}" if not isinstance(node.args[0], fx.Node) else f"{symbol} {numbers[0]}"
    return f"{name}: {symbol}" if node.meta.get("named") or symbol != name else name
