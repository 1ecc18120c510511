"""An animated GIF of the training: images that a network generates after selected epochs.

Dimensions: N images, ten in a row, P pixels (784).
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

ROW = 10
"""Images per row."""

FRAME_MILLISECONDS, LAST_FRAME_MILLISECONDS = 250, 2_500

SCALE, LINES = 2, 64
"""Scale factor of the images, and grey level of the lines between them."""


class Film:
    """Pages of images, one per selected epoch; part of the checkpoint, so that a resumed run keeps them.

    The epochs are evenly spaced on a logarithmic scale, because images change fastest at the start of training.
    """

    def __init__(self, epochs: int, pages: int = 24) -> None:
        self.epochs = {round(epochs ** (number / (pages - 1))) for number in range(pages)}
        self.pages: dict[int, Tensor] = {}

    def take(self, epoch: int, draw: Callable[[], Tensor]) -> None:
        """Store the (N, P) images in [0, 1] that `draw` returns, if the epoch is one of the selected ones."""
        if epoch in self.epochs:
            self.pages[epoch] = draw().mul(255).round().to(torch.uint8)

    def first_rows(self, rows: int = 8) -> tuple[list[str], Tensor]:
        """Return the epochs of at most `rows` pages, and their first ten images, (rows * 10, 1, 28, 28) in [0, 1]."""
        epochs = sorted(self.pages)
        chosen = epochs if len(epochs) <= rows else [epochs[n * (len(epochs) - 1) // (rows - 1)] for n in range(rows)]
        images = torch.cat([self.pages[epoch][:ROW] for epoch in chosen])
        return [f"epoch {epoch}" for epoch in chosen], images.float().div(255).view(-1, 1, 28, 28)

    def state_dict(self) -> dict[int, Tensor]:
        """Return the pages stored so far."""
        return self.pages

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Load the pages of a checkpoint."""
        self.pages = state

    def write(self, path: Path) -> None:
        """Write the pages as an animated GIF, each with its epoch above it."""
        from PIL import Image, ImageDraw

        frames = []
        for epoch, page in self.pages.items():
            framed = F.pad(page.view(-1, ROW, 28, 28), (1, 1, 1, 1), value=LINES)  # (rows, ROW, 30, 30)
            sheet = Image.fromarray(framed.permute(0, 2, 1, 3).reshape(-1, ROW * 30).numpy())
            sheet = sheet.resize((SCALE * sheet.width, SCALE * sheet.height), Image.Resampling.NEAREST)
            frame = Image.new("L", (sheet.width, sheet.height + 16))
            frame.paste(sheet, (0, 16))
            ImageDraw.Draw(frame).text((4, 2), f"epoch {epoch}", fill=255)
            frames.append(frame)
        durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
