"""Figures with text: alignments, word embeddings and shaded text, in the style of `plots`.

Every function returns a matplotlib Figure, which `run.figure(name, figure)` saves.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from common.drawing.plots import LOOK


def alignments(
    matrices: Sequence[Tensor],
    row_names: Sequence[Sequence[str]],
    column_names: Sequence[Sequence[str]],
    *,
    gamma: float = 1.0,
) -> Figure:
    """Draw matrices (R, C) in [0, 1], one below the other: the weight of each column in each row.

    A gamma below 1 makes small weights visible beside large ones.
    """
    cell = 0.17
    with mpl.rc_context(LOOK):
        widest = max(len(names) for names in column_names)
        longest = [max(map(len, names)) for names in column_names]  # words are vertical and need height
        heights = [len(rows) + 2 + 0.6 * size for rows, size in zip(row_names, longest, strict=True)]
        figure = Figure(figsize=(1.2 + cell * widest, 0.3 + cell * sum(heights)))
        grid = figure.subplots(len(matrices), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, matrix, rows, columns in zip(grid, matrices, row_names, column_names, strict=True):
            axes.grid(False)
            axes.imshow(matrix.detach().cpu().numpy(), cmap="Blues", norm=PowerNorm(gamma, 0, 1), aspect="equal")
            axes.set_anchor("W")
            turned = {"rotation": 90} if max(map(len, columns)) > 1 else {}
            axes.set_xticks(range(len(columns)), columns, fontsize="small", **turned)
            axes.set_yticks(range(len(rows)), rows, fontsize="small")
            axes.xaxis.tick_top()
            axes.tick_params(length=0)
    return figure


def word_maps(panels: Mapping[str, tuple[Tensor, Sequence[str], Sequence[tuple[int, int]]]]) -> Figure:
    """Draw labelled points (N, 2), one panel per title, with lines between linked pairs."""
    columns = min(2, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(6.0 * columns, 4.6 * rows))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (title, (points, names, links)) in zip(grid.flat, panels.items(), strict=False):
            for one, other in links:
                axes.plot(points[[one, other], 0], points[[one, other], 1], color="#bbbbbb", linewidth=0.8, zorder=1)
            axes.scatter(points[:, 0], points[:, 1], s=6, zorder=2)
            for (x, y), name in zip(points.tolist(), names, strict=True):
                axes.annotate(name, (x, y), xytext=(2, 2), textcoords="offset points", fontsize="x-small")
            axes.set(title=title)
            axes.set_xticks([])
            axes.set_yticks([])
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
    return figure


def labelled(points: Tensor, names: Sequence[str], groups: Sequence[str], *, title: str = "") -> Figure:
    """Draw (N, 2) points as their names, coloured by their groups."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(6.8, 5.6))
        axes = figure.subplots()
        colors = mpl.colormaps["tab10"]
        kinds = list(dict.fromkeys(groups))
        for number, kind in enumerate(kinds):
            axes.plot([], [], "o", color=colors(number % 10), label=kind)
        for (x, y), name, kind in zip(points.tolist(), names, groups, strict=True):
            axes.text(x, y, _plain(name), color=colors(kinds.index(kind) % 10), ha="center", va="center")
        low, high = points.amin(0), points.amax(0)
        margin = 0.06 * (high - low).clamp(min=1e-6)
        axes.set_xlim(float(low[0] - margin[0]), float(high[0] + margin[0]))
        axes.set_ylim(float(low[1] - margin[1]), float(high[1] + margin[1]))
        axes.set(title=title)
        axes.legend(loc="best", fontsize="small")
    return figure


def shaded_text(characters: Sequence[str], panels: Mapping[str, Tensor], *, width: int) -> Figure:
    """Draw a text once for each panel, each character shaded by its value (N,) in [-1, 1]."""
    rows = -(-len(characters) // width)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(0.125 * width + 0.4, (0.2 * rows + 0.4) * len(panels)))
        for axes, (title, values) in zip(
            figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
        ):
            grid = np.full(rows * width, np.nan)
            grid[: len(characters)] = values.detach().cpu().numpy()
            axes.imshow(grid.reshape(rows, width), cmap="RdBu_r", vmin=-1.7, vmax=1.7, aspect="auto")  # pale
            for place, character in enumerate(characters):
                row, column = divmod(place, width)
                axes.text(
                    *(column, row, _plain(character)),
                    ha="center",
                    va="center",
                    fontsize=7,
                    family="monospace",
                    in_layout=False,  # inside the axes: no need to measure it
                )
            axes.set_title(title, loc="left", fontsize="small")
            axes.set_axis_off()
    return figure


def shaded_words(
    sentences: Sequence[Sequence[str]],
    values: Sequence[Tensor],
    *,
    label: str,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Draw sentences, one per row, each word in a cell whose colour is its value between the limits."""
    longest = max(map(len, sentences))
    grid = np.full((len(sentences), longest), np.nan)
    for row, its in enumerate(values):
        grid[row, : len(its)] = its.detach().cpu().numpy()
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(0.74 * longest + 1.0, 0.42 * len(sentences) + 0.3))
        axes = figure.subplots()
        low, high = limits
        margin = 0.25 * (high - low)  # pale colours, so that words are legible
        image = axes.imshow(grid, cmap="RdBu", vmin=low - margin, vmax=high + margin, aspect="auto")
        for row, words in enumerate(sentences):
            for column, word in enumerate(words):
                axes.text(column, row, _plain(word), ha="center", va="center", fontsize=9, in_layout=False)
        axes.set_yticks(np.arange(len(sentences) + 1) - 0.5, minor=True)
        axes.grid(which="minor", axis="y", color="white", linewidth=6, alpha=1)
        axes.grid(which="major", visible=False)
        axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, label=label, fraction=0.03, pad=0.01)
        bar.ax.set_ylim(low, high)
    return figure


def text_lines(lines: Mapping[str, str], *, title: str = "") -> Figure:
    """Draw lines of text one below the other, each after its name."""
    longest, widest = max(map(len, lines)), max(map(len, lines.values()))
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(0.075 * (longest + 3 + widest) + 0.2, 0.24 * len(lines) + 0.4))
        axes = figure.subplots()
        axes.set(title=title, xlim=(0, longest + 3 + widest), ylim=(len(lines) - 0.5, -0.5))
        axes.set_axis_off()
        for row, (name, text) in enumerate(lines.items()):
            axes.text(0, row, name, va="center", fontsize=8, color="#0072b2")
            axes.text(longest + 3, row, _plain(text), va="center", fontsize=8, family="monospace")
    return figure


def _plain(text: str) -> str:
    """Escape dollar signs, which matplotlib reads as the start of a formula."""
    return text.replace("$", r"\$")
