"""Figures of anomaly detection: AUROC of each class, the most and least anomalous images, histograms of the scores."""

from __future__ import annotations  # types are not evaluated, so torch is not loaded

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from common.drawing import plots

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 6
"""Number of images with the largest and with the smallest scores in a row."""


def draw_auroc(names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the AUROC of each method (group) for each held-out class (name), with a line at 0.5, a random order."""
    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(8.2, 3.2))
        axes = figure.subplots()
        width = 0.84 / len(groups)
        for number, (group, values) in enumerate(groups.items()):
            places = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(names))]
            axes.bar(places, values, width=width, label=group)
        axes.axhline(0.5, color="black", linewidth=0.8)
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel="held-out class", ylabel="AUROC", ylim=(0, 1))
        axes.grid(False, axis="x")
        figure.legend(loc="outside upper center", ncols=len(groups), fontsize="small")
    return figure


def draw_extremes(
    pixels: Tensor, labels: Tensor, names: Sequence[str], scores: Mapping[int, Tensor], *, rows: int = 4
) -> Figure:
    """Draw the (N, 1, H, W) images with the largest and the smallest score, one row per held-out class.

    The class is above each image, in brackets if it is the one that was held out.
    """
    import torch

    shown, titles, row_names = [], [], []
    for label, values in [*scores.items()][:rows]:
        order = values.argsort(descending=True)
        chosen = torch.cat([order[:SHOWN], order[-SHOWN:]])
        shown.append(pixels[chosen])
        titles += [f"[{names[k]}]" if k == label else names[k] for k in labels[chosen].tolist()]
        row_names.append(f"without {names[label]}")
    columns = len(shown[0])
    return plots.image_grid(torch.cat(shown), columns=columns, titles=titles, row_names=row_names, size=0.6)


def draw_histograms(panels: Mapping[str, tuple[Tensor, Tensor]], *, label: str, columns: int = 2) -> Figure:
    """Draw the densities of (N,) scores of normal images and of (M,) scores of anomalies, one panel per title."""
    rows = -(-len(panels) // columns)
    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(3.6 * columns, 2.3 * rows + 0.2))
        grid = figure.subplots(rows, columns, squeeze=False)
        for number, (title, parts) in enumerate(panels.items()):
            axes = grid[number // columns, number % columns]
            values = [part.double().numpy() for part in parts]
            low, high = np.quantile(np.concatenate(values), [0.0, 0.995])  # without a few very large scores
            bins = np.linspace(low, max(high, low + 1e-9), 40)
            for name, part in zip(("normal", "held-out class"), values, strict=True):
                axes.hist(part, bins=bins, density=True, alpha=0.55, label=name)
            axes.set(title=title, xlabel=label if number // columns == rows - 1 else "", yticks=[])
            if number == 0:
                axes.legend(fontsize="x-small")
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
    return figure
