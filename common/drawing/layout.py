"""Layered graph layout: layers from top to bottom, long edges bent around the nodes between their ends.

This is the method of Sugiyama et al. (1981), which Graphviz refines: assign every node to a layer below its operands,
order the nodes of each layer so that few edges cross, then choose positions near the neighbours that keep this order.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

Point = tuple[float, float]

GAP, LAYER_GAP, BEND_WIDTH = 0.3, 0.4, 0.05
"""Distance between boxes, distance between layers, and width of an edge that crosses a layer, in inches."""
SWEEPS = 8
"""Number of sweeps, each downwards and upwards, that improve the order and then the positions."""


class Layers:
    """Nodes of a graph by layer, and the bends of its edges: one where an edge crosses a layer."""

    def __init__(self, graph: "nx.DiGraph") -> None:
        depth = _depths(graph)
        self.rows: list[list[Any]] = [[] for _ in range(max(depth.values()) + 1)]
        self.bends: dict[tuple[Any, Any], list[Any]] = {}
        self.above: dict[Any, list[Any]] = {}
        self.below: dict[Any, list[Any]] = {}
        for node in graph:
            self.rows[depth[node]].append(node)
        for tail, head in graph.edges:
            bends = [(tail, head, level) for level in range(depth[tail] + 1, depth[head])]
            for bend in bends:
                self.rows[bend[2]].append(bend)
            self.bends[tail, head] = bends
            for upper, lower in pairwise([tail, *bends, head]):
                self.above.setdefault(lower, []).append(upper)
                self.below.setdefault(upper, []).append(lower)

    def sweeps(self) -> list[tuple[list[Any], dict[Any, list[Any]]]]:
        """Pair the layers with neighbours: downwards with those above, then upwards with those below."""
        return [*((row, self.above) for row in self.rows), *((row, self.below) for row in reversed(self.rows))]


def find_places(
    graph: "nx.DiGraph", boxes: dict[Any, tuple[float, float]]
) -> tuple[dict[Any, Point], dict[tuple[Any, Any], list[Point]]]:
    """Compute the centre of each box and the bend points of each edge; boxes are (width, height) in inches."""
    layers = Layers(graph)
    for row, neighbours in layers.sweeps() * SWEEPS:
        position = {node: i / len(other) for other in layers.rows for i, node in enumerate(other)}
        row.sort(key=lambda node: _mean(neighbours.get(node, ()), position, position[node]))
    width = {node: boxes[node][0] if node in boxes else BEND_WIDTH for row in layers.rows for node in row}
    x = dict.fromkeys(width, 0.0)
    for row, neighbours in layers.sweeps() * SWEEPS:
        wanted = [_mean(neighbours.get(node, ()), x, x[node]) for node in row]
        x |= dict(zip(row, _apart(wanted, [width[node] for node in row]), strict=True))
    y, top = dict[Any, float](), -LAYER_GAP / 2
    for row in layers.rows:
        height = max(boxes[node][1] for node in row if node in boxes)
        y |= dict.fromkeys(row, top - height / 2)
        top -= height + LAYER_GAP
    places = {node: (x[node], y[node]) for node in x}
    return places, {edge: [places[bend] for bend in bends] for edge, bends in layers.bends.items()}


def _depths(graph: "nx.DiGraph") -> dict[Any, int]:
    """Return the longest path length from an input to each node; inputs are placed just above their first use."""
    import networkx as nx

    depth: dict[Any, int] = {}
    for node in nx.topological_sort(graph):
        depth[node] = max((depth[operand] + 1 for operand in graph.predecessors(node)), default=0)
    for node in graph:
        if not graph.in_degree(node) and graph.out_degree(node):
            depth[node] = min(depth[result] for result in graph.successors(node)) - 1
    return depth


def _mean(neighbours: Any, position: dict[Any, float], otherwise: float) -> float:
    return sum(position[node] for node in neighbours) / len(neighbours) if neighbours else otherwise


def _apart(wanted: list[float], widths: list[float]) -> list[float]:
    """Move the boxes of a row apart until none overlap, keeping their order and mean position."""
    x = wanted[:1]
    for place, (before, width) in zip(wanted[1:], pairwise(widths), strict=True):
        x.append(max(place, x[-1] + (before + width) / 2 + GAP))
    shift = sum(wanted) / len(wanted) - sum(x) / len(x)
    return [place + shift for place in x]
