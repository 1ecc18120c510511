"""Pictures of generated points during training: a figure with a row per method, and an animated GIF.

Dimensions: N points, M means.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch08_vae.adversarial.mixtures import Mixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME_MILLISECONDS, LAST_FRAME_MILLISECONDS = 300, 2_500

SIDE, ROOM = 150, 18
"""Width of a panel of the animation, and height of the text above it, in pixels."""

POINT, MEAN, FRAME = (0, 114, 178), (213, 94, 0), (200, 200, 200)
"""Colours of a generated point, of the mean of a Gaussian, and of the lines around a panel."""


class Snapshots:
    """Generated points after selected epochs; part of the checkpoint, so that a resumed run keeps them.

    The epochs are evenly spaced on a logarithmic scale, because points move fastest at the start of training.
    """

    def __init__(self, epochs: int, pages: int = 24) -> None:
        self.epochs = {round(epochs ** (number / (pages - 1))) for number in range(pages)}
        self.pages: dict[int, list[Tensor]] = {}

    def take(self, epoch: int, points: list[Tensor]) -> None:
        """Store the (N, 2) points of every method, if the epoch is one of the selected ones."""
        if epoch in self.epochs:
            self.pages[epoch] = points

    def state_dict(self) -> dict[int, list[Tensor]]:
        """Return the pages stored so far."""
        return self.pages

    def load_state_dict(self, state: dict[int, list[Tensor]]) -> None:
        """Load the pages of a checkpoint."""
        self.pages = state

    def chosen(self, count: int = 6) -> list[int]:
        """Return at most `count` of the stored epochs, with the first and the last."""
        epochs = sorted(self.pages)
        if len(epochs) <= count:
            return epochs
        return [epochs[number * (len(epochs) - 1) // (count - 1)] for number in range(count)]

    def draw(self, methods: Sequence[str], mixture: Mixture) -> "Figure":
        """Draw points after selected epochs: a row per method, and the means of the mixture as circles."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        from common.drawing.plots import LOOK

        epochs, limit = self.chosen(), extent(mixture)
        with mpl.rc_context(LOOK):
            figure = Figure(figsize=(1.5 * len(epochs) + 0.6, 1.5 * len(methods) + 0.4))
            grid = figure.subplots(len(methods), len(epochs), squeeze=False)
            for row, name in enumerate(methods):
                for column, epoch in enumerate(epochs):
                    axes, (x, y) = grid[row, column], self.pages[epoch][row].T.numpy()
                    axes.scatter(
                        *mixture.means.T.numpy(), s=14, facecolors="none", edgecolors="#d55e00", linewidths=0.5
                    )
                    axes.scatter(x, y, s=1.5, color="#0072b2", alpha=0.5, linewidths=0)
                    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
                    axes.grid(False)
                    if row == 0:
                        axes.set_title(f"epoch {epoch}", fontsize="small")
                    if column == 0:
                        axes.set_ylabel(name.replace("_", " "), fontsize="small")
        return figure

    def write(self, path: Path, methods: Sequence[str], mixture: Mixture) -> None:
        """Write all pages as an animated GIF: the methods side by side, three in a row."""
        from PIL import Image, ImageDraw

        columns, limit, frames = min(3, len(methods)), extent(mixture), []
        rows = -(-len(methods) // columns)
        for epoch, page in self.pages.items():
            frame = Image.new("RGB", (columns * SIDE, rows * (SIDE + ROOM)), (255, 255, 255))
            pen = ImageDraw.Draw(frame)
            for number, (name, points) in enumerate(zip(methods, page, strict=True)):
                left, top = number % columns * SIDE, number // columns * (SIDE + ROOM)
                pen.rectangle((left, top + ROOM, left + SIDE - 2, top + ROOM + SIDE - 2), outline=FRAME)
                pen.text((left + 4, top + 3), f"{name.replace('_', ' ')}, epoch {epoch}", fill=(0, 0, 0))
                places = SIDE * (points / limit + 1) / 2
                inside = places[((places > 1) & (places < SIDE - 1)).all(1)]
                for x, y in (SIDE * (mixture.means / limit + 1) / 2).tolist():
                    middle = left + x, top + ROOM + SIDE - y
                    pen.circle(middle, 4, outline=MEAN)
                for x, y in inside.tolist():
                    pen.point((left + x, top + ROOM + SIDE - y), fill=POINT)
            frames.append(frame)
        durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def extent(mixture: Mixture) -> float:
    """Return the largest coordinate that the pictures show."""
    return 1.25 * float(torch.linalg.vector_norm(mixture.means, ord=float("inf")))
