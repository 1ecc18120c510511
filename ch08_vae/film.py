"""A training as a film: what a network draws after some of its epochs, as an animated GIF.

Dimensions: N drawings, ten in a row, P pixels (784).
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

ROW = 10
"""Drawings in a row."""

FRAME_MILLISECONDS, LAST_FRAME_MILLISECONDS = 250, 2_500

SCALE, LINES = 2, 64
"""How much the drawings are enlarged, and how bright the lines between them are."""


class Film:
    """Pages of drawings, taken after some epochs; part of the checkpoint, so that it survives.

    The epochs are spread evenly on a logarithmic scale, so that the fast beginning is seen.
    """

    def __init__(self, epochs: int, pages: int = 24) -> None:
        self.epochs = {round(epochs ** (number / (pages - 1))) for number in range(pages)}
        self.pages: dict[int, Tensor] = {}

    def take(self, epoch: int, draw: Callable[[], Tensor]) -> None:
        """Keep what `draw` gives, (N, P) in [0, 1], if this is one of the epochs."""
        if epoch in self.epochs:
            self.pages[epoch] = draw().mul(255).round().to(torch.uint8)

    def state_dict(self) -> dict[int, Tensor]:
        """Give the pages taken so far."""
        return self.pages

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Take over the pages of an interrupted run."""
        self.pages = state

    def write(self, path: Path) -> None:
        """Write the pages as an animated GIF, each under its epoch."""
        from PIL import Image, ImageDraw

        pictures = []
        for epoch, page in self.pages.items():
            framed = F.pad(page.view(-1, ROW, 28, 28), (1, 1, 1, 1), value=LINES)  # (rows, ROW, 30, 30)
            sheet = Image.fromarray(framed.permute(0, 2, 1, 3).reshape(-1, ROW * 30).numpy())
            sheet = sheet.resize((SCALE * sheet.width, SCALE * sheet.height), Image.Resampling.NEAREST)
            picture = Image.new("L", (sheet.width, sheet.height + 16))
            picture.paste(sheet, (0, 16))
            ImageDraw.Draw(picture).text((4, 2), f"epoch {epoch}", fill=255)
            pictures.append(picture)
        durations = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_FRAME_MILLISECONDS]
        pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
