"""Curves, image grids, heat maps, scatter plots and bars, in one style for all chapters.

Every drawing function returns a matplotlib Figure, which `run.figure(name, figure)` or `save` writes to a file.
"""

from __future__ import annotations  # types are not evaluated, so torch is not loaded

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

if TYPE_CHECKING:
    from torch import Tensor

    Line = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]
    """The x and the y of a line."""

LOOK: dict[Any, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.size": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.dpi": 110,
}

GAP, LINE, CHARACTER = 0.06, 0.14, 0.075
"""Gap between images, height of a line of small text, and width of one of its characters, in inches."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, whatever the end of the file's name.

    `figure.savefig` of a figure with a layout engine draws it twice, the first time without an output.
    """
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(path, format="png")


def curves(history: Sequence[dict[str, float]], panels: Mapping[str, Sequence[str]], *, log: bool = False) -> Figure:
    """Plot metrics over epochs, one panel per title, as in `{"loss": ["train_loss", "valid_loss"]}`."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(4.6 * len(panels), 3.2))
        epochs = [row["epoch"] for row in history]
        for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            for name in names:
                values = [row[name] for row in history]
                axes.plot(epochs, values, marker="." if len(epochs) < 40 else "", label=name.replace("_", " "))
            axes.set(title=title, xlabel="epoch")
            if log:
                axes.set_yscale("log")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")
    return figure


def compared_curves(histories: Mapping[str, Sequence[dict[str, float]]], names: Sequence[str]) -> Figure:
    """Plot metrics of several runs over epochs: one panel per metric, one line per run that has it."""
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(4.6 * columns, 3.0 * rows + 0.25 * len(histories)))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            for title, history in histories.items():  # a run without the metric keeps its colour in the other panels
                points = [(row["epoch"], row[name]) for row in history if name in row]
                marker = "." if len(points) < 40 else ""
                axes.plot([epoch for epoch, _ in points], [value for _, value in points], marker=marker, label=title)
            axes.set(title=name.replace("_", " "), xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        handles, titles = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, titles, loc="outside lower left", ncols=1)
    return figure


def image_grid(
    images: Tensor,
    *,
    columns: int,
    titles: Sequence[str] | None = None,
    row_names: Sequence[str] | None = None,
    size: float = 0.8,
) -> Figure:
    """Draw (N, C, H, W) images in rows: uint8, or floats in [0, 1]; one channel is grey, three are colour.

    `size` is the width and height of a cell in inches. Titles above the images may have several lines; an image without
    a title has a blank one.
    """
    pictures = images.detach().cpu().movedim(1, -1).numpy()
    rows = -(-len(pictures) // columns)
    room = size - GAP
    height, width = (room * side / max(pictures.shape[1:3]) for side in pictures.shape[1:3])
    lines = [line for title in titles or [] for line in title.split("\n")]
    above = LINE * max((title.count("\n") + 1 for title in titles or []), default=0)
    left = CHARACTER * max(map(len, row_names)) + 2 * GAP if row_names else 0.0
    points = min(8.3, 8.3 * size / (CHARACTER * max(map(len, lines), default=1)))  # the longest title fits its cell
    with mpl.rc_context({**LOOK, "figure.constrained_layout.use": False}):
        figure = Figure(figsize=(left + size * columns, (size + above) * rows))
        # one pair of axes in inches, since a pair for each image would take most of the time
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        top = 1 if images.is_floating_point() else 255
        for number, picture in enumerate(pictures):
            row, column = divmod(number, columns)
            x, y = left + size * (column + 0.5), (size + above) * row + above + size / 2
            axes.imshow(
                picture.squeeze(-1) if picture.shape[-1] == 1 else picture,
                cmap="gray",
                vmin=0,
                vmax=top,
                aspect="auto",
                extent=(x - width / 2, x + width / 2, y + height / 2, y - height / 2),
            )
            if titles and number < len(titles):
                axes.text(x, y - height / 2 - GAP / 2, titles[number], ha="center", va="bottom", fontsize=points)
        for row, name in enumerate((row_names or [])[:rows]):
            y = (size + above) * row + above + size / 2
            axes.text(left - GAP, y, name, ha="right", va="center", fontsize="small")
        axes.set(xlim=(0, figure.get_figwidth()), ylim=(figure.get_figheight(), 0))  # after imshow, which sets them
    return figure


def heat_map(
    matrix: Tensor, row_names: Sequence[str], column_names: Sequence[str], *, rows: str, columns: str, title: str = ""
) -> Figure:
    """Draw a matrix (R, C) of counts or values, each written in its cell."""
    values = matrix.detach().cpu().numpy()
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(1.6 + 0.48 * values.shape[1], 1.4 + 0.4 * values.shape[0]))
        axes = figure.subplots()
        axes.grid(False)
        shade = np.sqrt(np.clip(values, 0, None))  # small counts stay visible beside large ones
        axes.imshow(shade, cmap="Blues", vmin=0, vmax=max(shade.max(), 1e-12) * 1.15, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            text = f"{value:g}" if np.issubdtype(values.dtype, np.integer) else f"{value:.2g}"
            dark = shade[row, column] > 0.6 * shade.max()
            color = "white" if dark else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize="small", color=color, in_layout=False)
        axes.set(xlabel=columns, ylabel=rows, title=title)
        turned = {"rotation": 45, "ha": "right"} if max(map(len, column_names)) > 3 else {}
        axes.set_xticks(range(len(column_names)), column_names, **turned)
        axes.set_yticks(range(len(row_names)), row_names)
    return figure


def shades(
    matrix: Tensor,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    rows: str,
    columns: str,
    title: str = "",
    rings: Sequence[tuple[int, int]] = (),
) -> Figure:
    """Draw a matrix (R, C) of values in [0, 1] without numbers, with rings around some cells (column, row)."""
    wide = max(map(len, column_names)) > 2
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(1.4 + 0.2 * matrix.shape[1], 1.2 + 0.2 * matrix.shape[0] + 0.5 * wide))
        axes = figure.subplots()
        axes.grid(False)
        norm = PowerNorm(0.5, 0, 1)  # small values stay visible beside large ones
        picture = axes.imshow(matrix.detach().cpu().numpy(), cmap="Blues", norm=norm, aspect="auto")
        if rings:
            x, y = zip(*rings, strict=True)
            axes.scatter(x, y, s=45, facecolors="none", edgecolors="#d55e00", linewidths=1.2)
        axes.set(xlabel=columns, ylabel=rows, title=title)
        turned = {"rotation": 60, "ha": "right"} if wide else {}
        axes.set_xticks(range(len(column_names)), column_names, fontsize="small", **turned)
        axes.set_yticks(range(len(row_names)), row_names, fontsize="small")
        figure.colorbar(picture, ax=axes, shrink=0.7)
    return figure


def confusion_matrix(labels: Tensor, guesses: Tensor, names: Sequence[str]) -> Figure:
    """Draw how often each class (rows) was predicted as each class (columns); labels and guesses are (N,)."""
    count = len(names)
    matrix = (labels * count + guesses).bincount(minlength=count**2).view(count, count)
    right = matrix.diagonal().sum() / matrix.sum()
    title = f"accuracy {right:.2%} on {matrix.sum():,} images"
    return heat_map(matrix, names, names, rows="class", columns="predicted class", title=title)


def scatter(points: Tensor, labels: Tensor, names: Sequence[str], *, title: str = "") -> Figure:
    """Draw (N, 2) points, coloured by their class (N,), with the name of each class at its median."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(6.2, 5.2))
        axes = figure.subplots()
        colors = mpl.colormaps["tab10"]
        for label, name in enumerate(names):
            chosen = points[labels == label]
            if len(chosen) == 0:
                continue
            axes.scatter(chosen[:, 0], chosen[:, 1], s=7, alpha=0.7, color=colors(label % 10), label=name, linewidths=0)
            middle = chosen.median(dim=0).values
            axes.annotate(
                name,
                (float(middle[0]), float(middle[1])),
                ha="center",
                va="center",
                weight="bold",
                bbox={"fc": "white", "alpha": 0.6, "lw": 0, "pad": 1},
            )
        axes.set(title=title)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def bars(names: Sequence[str], values: Sequence[float], *, title: str, label: str) -> Figure:
    """Draw one labelled horizontal bar per value, the first on top."""
    low, high = min(0, *values), max(1e-9, *values)
    room = 0.15 * (high - low)  # for the labels at the ends of the bars
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(5.2, 0.9 + 0.28 * len(names)))
        axes = figure.subplots()
        drawn = axes.barh(range(len(names)), values)
        axes.bar_label(
            drawn,
            [f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}" for value in values],
            padding=3,
            fontsize="small",
        )
        axes.set_yticks(range(len(names)), names)
        axes.set(title=title, xlabel=label, xlim=(low - room * (low < 0), high + room))
        axes.locator_params(axis="x", nbins=5)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
    return figure


def bar_groups(names: Sequence[str], groups: Mapping[str, Sequence[float]], *, title: str, label: str) -> Figure:
    """Draw horizontal bars side by side, one of each group at each name, the first name on top."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(5.6, 1.0 + (0.06 + 0.11 * len(groups)) * len(names)))
        axes = figure.subplots()
        thickness = 0.8 / len(groups)
        for number, (group, values) in enumerate(groups.items()):
            places = [place + (number - (len(groups) - 1) / 2) * thickness for place in range(len(names))]
            axes.barh(places, values, height=thickness, label=group)
        axes.set_yticks(range(len(names)), names)
        axes.set(title=title, xlabel=label)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.legend(loc="best", fontsize="small")
    return figure


def line_panels(
    panels: Mapping[str, Mapping[str, Line]],
    *,
    columns: int,
    xlabel: str = "",
    ylabel: str = "",
    dots: Mapping[str, Mapping[str, Line]] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    share_y: bool = False,
    ylim: tuple[float, float] | None = None,
    marked: Sequence[str] = (),
    size: float = 1.0,
) -> Figure:
    """Draw lines, one panel per title, as in `{"relu": {"f(z)": (z, f), "f'(z)": (z, slope)}}`, over optional dots.

    Marked lines also show their points; `size` scales the panels. Lines of the same name have the same colour in every
    panel and are in the legend of the first panel that shows them.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(3.0 * size * columns + 0.8, 2.4 * size * rows + 0.6))
        grid = figure.subplots(rows, columns, squeeze=False, sharex=share_y, sharey=share_y)
        colors = [entry["color"] for entry in mpl.rcParams["axes.prop_cycle"]]
        explained: set[str] = set()
        for number, (title, lines) in enumerate(panels.items()):
            axes = grid[number // columns, number % columns]
            for name, (x, y) in (dots or {}).get(title, {}).items():
                axes.plot(x, y, ".", color="#999999", label=name if name not in explained else None)
                explained.add(name)
            for name, (x, y) in lines.items():
                index = names.index(name)
                style = "-" if index < len(colors) else "--"
                label = name if name not in explained else None
                axes.plot(
                    x,
                    y,
                    style + "o" * (name in marked),
                    markersize=3,
                    color=colors[index % len(colors)],
                    label=label,
                    linewidth=1.4,
                )
                explained.add(name)
            axes.set(title=title, xlabel=xlabel, ylabel=ylabel if number % columns == 0 else "")
            axes.set_xscale("log" if log_x else "linear")
            axes.set_yscale("log" if log_y else "linear")
            if ylim is not None:
                axes.set_ylim(ylim)
            if axes.get_legend_handles_labels()[1]:
                axes.legend(loc="best", fontsize="x-small")
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
    return figure


def contour_paths(
    x: Tensor, y: Tensor, heights: Tensor, paths: Mapping[str, Tensor], *, goal: tuple[float, float], columns: int
) -> Figure:
    """Draw paths (T, 2), one per panel, over contours of heights (Y, X) at x (X,) and y (Y,); a cross marks `goal`."""
    rows = -(-len(paths) // columns)
    levels = np.logspace(np.log10(max(float(heights.min()), 1e-3)), np.log10(float(heights.max())), 12)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(2.6 * columns, 2.3 * rows))
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, (title, path) in zip(grid.flat, paths.items(), strict=False):
            axes.contour(x.numpy(), y.numpy(), heights.numpy(), levels=levels, colors="#bbbbbb", linewidths=0.6)
            axes.plot(path[:, 0], path[:, 1], ".-", markersize=2, linewidth=0.9)
            axes.plot(*goal, "x", color="black")
            axes.set_title(title, fontsize="small")
            axes.set(xlim=(float(x.min()), float(x.max())), ylim=(float(y.min()), float(y.max())))
            axes.grid(False)
        for axes in grid.flat[len(paths) :]:
            axes.set_axis_off()
    return figure


def mosaic(
    images: Tensor,
    *,
    columns: int,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    title: str = "",
    size: float = 0.42,
) -> Figure:
    """Draw hundreds of (N, 1, H, W) grey images in [0, 1] as tiles of one picture; `size` is in inches per tile."""
    *_, height, width = images.shape
    rows = -(-len(images) // columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1))
    for number, image in enumerate(images.detach().cpu().numpy()):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = image[0]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(size * columns + (1.7 if row_names else 0.2), size * rows + (0.6 if title else 0.2)))
        axes = figure.subplots()
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(False)
        axes.set_title(title)
        middles = [number * (width + 1) + width / 2 for number in range(len(column_names))]
        axes.set_xticks(middles, column_names, fontsize="small")
        middles = [number * (height + 1) + height / 2 for number in range(len(row_names))]
        axes.set_yticks(middles, row_names, fontsize="small")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def field(
    values: Tensor, arrows: Tensor, hidden: Tensor, *, path: Sequence[tuple[int, int]] = (), title: str = "", label: str
) -> Figure:
    """Draw (H, W) values as colours, with (H, W, 2) arrows (down, right) and a path of (row, column) on them;
    hidden cells (H, W) are dark.
    """
    height, width = values.shape
    shown = np.ma.masked_array(values.numpy(), hidden.numpy())
    colors = mpl.colormaps["viridis"].with_extremes(bad="#2d3440")
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(1.8 + 0.3 * width, 0.8 + 0.3 * height))
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(shown, cmap=colors)
        bar = figure.colorbar(image, label=label, shrink=0.9)
        bar.formatter.set_useOffset(False)  # pyright: ignore[reportAttributeAccessIssue]
        rows, columns = (~hidden).nonzero(as_tuple=True)
        down, right = arrows[rows, columns].unbind(1)
        axes.quiver(columns, rows, right, -down, color="white", pivot="mid", scale=1.6, units="x", width=0.08)
        if path:
            axes.plot([c for _, c in path], [r for r, _ in path], color="#d55e00", linewidth=2.2, alpha=0.85)
        axes.set(title=title, xticks=[], yticks=[])
    return figure
