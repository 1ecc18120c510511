"""Diagrams of graphs: DOT text, drawings with and without Graphviz, and modules."""

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from common.drawing import graphs, layout


@pytest.fixture
def drawn() -> nx.DiGraph:
    """A diamond with one edge that crosses a layer."""
    graph = nx.DiGraph()
    graph.add_node("a", lines=["a", "2x3 float32"], kind="input")
    graph.add_node("b", lines=["b: exp"], kind="operation")
    graph.add_node("c", lines=["c"], kind="parameter")
    graph.add_node("d", lines=["d: *", "scalar float32"], kind="gradient")
    graph.add_edge("a", "b", backward=False)
    graph.add_edge("b", "d", backward=True)
    graph.add_edge("c", "d", backward=False)
    graph.add_edge("a", "d", backward=False)
    return graph


def test_dot_has_all_nodes_and_colours_backward_edges(drawn):
    text = graphs.to_dot(drawn)
    assert '"a" [label="a\\n2x3 float32", fillcolor="#cfe2ff"];' in text
    assert f'"a" -> "b" [color="{graphs.EDGE}"];' in text
    assert f'"b" -> "d" [color="{graphs.BACKWARD_EDGE}"];' in text
    assert text.count("->") == 4


def test_quotes_and_backslashes_are_escaped_in_dot():
    graph = nx.DiGraph()
    graph.add_node("a", lines=['say "x\\y"'], kind="input")
    assert 'label="say \\"x\\\\y\\""' in graphs.to_dot(graph)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_diagram_is_drawn_without_graphviz(drawn, suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = tmp_path / f"graph{suffix}"
    graphs.save(drawn, path)
    if suffix == ".png":
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20
    else:
        assert path.read_bytes()[:5] in (b"<?xml", b"%PDF-")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_every_node(drawn, tmp_path):
    graphs.save(drawn, tmp_path / "graph.svg")
    titles = {
        element.text for element in ElementTree.parse(tmp_path / "graph.svg").iter() if element.tag.endswith("title")
    }
    assert set(drawn.nodes) <= titles


def test_graphviz_errors_are_reported(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/dot")
    broken = subprocess.CompletedProcess([], 1, "", "syntax error in line 1\n")
    monkeypatch.setattr(subprocess, "run", lambda *words, **named: broken)
    with pytest.raises(OSError, match=r"Graphviz cannot draw .*: syntax error in line 1"):
        graphs.save(drawn, tmp_path / "graph.svg")


def test_unknown_picture_format_is_rejected(drawn, tmp_path):
    with pytest.raises(ValueError, match=r"graph\.gif: the name of a diagram must end in \.dot, \.svg, \.pdf or \.png"):
        graphs.save(drawn, tmp_path / "graph.gif")


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=25))
def test_boxes_do_not_overlap_and_results_are_below_their_operands(pairs):
    drawn = nx.DiGraph()
    drawn.add_edges_from((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1])
    drawn.add_node(0)
    places, bends = layout.find_places(drawn, dict.fromkeys(drawn, (1.0, 0.5)))
    for tail, head in drawn.edges:
        heights = [places[tail][1], *(y for _, y in bends[tail, head]), places[head][1]]
        assert all(upper > lower for upper, lower in pairwise(heights))
    for a, b in combinations(drawn, 2):
        if abs(places[a][1] - places[b][1]) < 0.5:
            assert abs(places[a][0] - places[b][0]) >= 1.0


@pytest.mark.parametrize("capture", ["fx", "export"])
def test_an_ordinary_module_is_drawn_too(capture):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    drawn = graphs.module_picture(model, torch.zeros(2, 1, 6, 6), capture=capture)
    lines = [" ".join(node["lines"]) for node in drawn.nodes.values()]
    assert any("2x4x4x4 float32" in line for line in lines)
    assert any("2x10 float32" in line for line in lines)
    if capture == "fx":
        assert "0: Conv2d 1, 4, kernel_size=(3, 3), stride=(1, 1) 2x4x4x4 float32" in lines
