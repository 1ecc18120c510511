"""Diagrams of graphs: of any nn.Module, and of the graphs that a chapter builds.

    save(module_picture(model, images), Path("model.svg"))

A diagram is a networkx graph whose nodes have `lines` of text and a `kind`, and whose edges have a flag `backward` for
edges to a gradient. `to_dot` converts it to Graphviz's language. Graphviz draws it if it is installed, else matplotlib
with the layout of `layout.py`.
"""

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, fx, nn

from common.drawing.layout import find_places

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

COLOURS = {
    "input": "#cfe2ff",
    "parameter": "#d1e7dd",
    "constant": "#eeeeee",
    "operation": "#ffffff",
    "gradient": "#ffe5d0",
}
EDGE, BACKWARD_EDGE = "#444444", "#d9480f"
"""Colours of edges, and of edges to a gradient."""


def describe(value: Any) -> str:
    """Describe shape and dtype of a tensor or of a similar object: `2x3 float32`, `scalar float64`."""
    shape = "x".join(map(str, value.shape)) if len(value.shape) != 1 else f"vector of {value.shape[0]}"
    return f"{shape or 'scalar'} {str(value.dtype).removeprefix('torch.')}"


def module_picture(module: nn.Module, *example: Tensor, capture: Literal["fx", "export"] = "fx") -> "nx.DiGraph":
    """Build the diagram of a module from example inputs.

    `fx` shows its layers; `export` (torch.export) shows their operators and supports more of Python.
    """
    import networkx as nx
    from torch.fx.passes.shape_prop import ShapeProp

    if capture == "export":
        traced = torch.export.export(module, example).module()
    else:
        traced = fx.symbolic_trace(module)
        ShapeProp(traced).propagate(*example)
    assert isinstance(traced, fx.GraphModule)
    graph = nx.DiGraph()
    for node in traced.graph.nodes:
        if node.op == "output" or node.name == "_guards_fn":
            continue
        kind = {"placeholder": "input", "get_attr": "parameter"}.get(node.op, "operation")
        layer = traced.get_submodule(node.target) if node.op == "call_module" else None
        lines = [f"{node.target}: {type(layer).__name__}" if layer is not None else node.name]
        lines += [] if layer is None or not layer.extra_repr() else [layer.extra_repr()]
        value = node.meta.get("val", node.meta.get("tensor_meta"))
        lines += [describe(value)] if hasattr(value, "shape") else []
        graph.add_node(node.name, lines=lines, kind=kind)
        for operand in node.all_input_nodes:
            graph.add_edge(operand.name, node.name, backward=False)
    return graph


def to_dot(graph: "nx.DiGraph") -> str:
    """Convert a diagram to Graphviz's language."""
    rows = ["digraph {", '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];']
    for name, node in graph.nodes.items():
        label = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in node["lines"])
        rows.append(f'  "{name}" [label="{label}", fillcolor="{COLOURS[node["kind"]]}"];')
    for (tail, head), edge in graph.edges.items():
        rows.append(f'  "{tail}" -> "{head}" [color="{BACKWARD_EDGE if edge["backward"] else EDGE}"];')
    return "\n".join([*rows, "}\n"])


def save(graph: "nx.DiGraph", path: Path) -> None:
    """Save a diagram as .dot, .svg, .pdf or .png, drawn by Graphviz if it is installed, else by matplotlib."""
    if path.suffix == ".dot":
        path.write_text(to_dot(graph), encoding="utf-8")
    elif path.suffix not in (".svg", ".pdf", ".png"):
        raise ValueError(f"{path}: the name of a diagram must end in .dot, .svg, .pdf or .png")
    elif shutil.which("dot"):
        words = ["dot", f"-T{path.suffix[1:]}", "-Gdpi=110", "-o", str(path)]
        done = subprocess.run(words, input=to_dot(graph), text=True, capture_output=True)
        if done.returncode:
            raise OSError(f"Graphviz cannot draw {path}: {done.stderr.strip()}")
    else:
        draw(graph).savefig(path)


LINE_HEIGHT, LETTER_WIDTH, MARGIN = 0.18, 0.078, 0.2
"""Line height, width of a letter and margin of a box, in inches."""


def draw(graph: "nx.DiGraph") -> "Figure":
    """Draw a diagram with matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path as Route

    boxes = {name: _box(node["lines"]) for name, node in graph.nodes.items()}
    places, routes = find_places(graph, boxes)
    left = min(places[name][0] - width / 2 for name, (width, _) in boxes.items()) - MARGIN
    right = max(places[name][0] + width / 2 for name, (width, _) in boxes.items()) + MARGIN
    bottom = min(places[name][1] - height / 2 for name, (_, height) in boxes.items()) - MARGIN
    figure = Figure(figsize=(right - left, -bottom), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, 0))
    axes.set_axis_off()
    for (tail, head), edge in graph.edges.items():
        (x0, y0), (x1, y1) = places[tail], places[head]
        ends = (x0, y0 - boxes[tail][1] / 2), (x1, y1 + boxes[head][1] / 2)
        route = Route([ends[0], *routes[tail, head], ends[1]])
        colour = BACKWARD_EDGE if edge["backward"] else EDGE
        axes.add_patch(FancyArrowPatch(path=route, arrowstyle="-|>", mutation_scale=9, color=colour, fill=False))
    for name, node in graph.nodes.items():
        (x, y), (width, height) = places[name], boxes[name]
        corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.07"
        colour = COLOURS[node["kind"]]
        axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor=EDGE))
        axes.text(x, y, "\n".join(node["lines"]), ha="center", va="center", fontsize=8, parse_math=False)
    return figure


def _box(lines: list[str]) -> tuple[float, float]:
    """Return width and height, in inches, of a box around lines of text."""
    return LETTER_WIDTH * max(map(len, lines)) + MARGIN, LINE_HEIGHT * len(lines) + MARGIN
