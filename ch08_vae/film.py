"""An animated GIF of the training: images that a network generates after selected epochs.

Dimensions: N images, ten in a row, P pixels (784), C channels, H height, W width.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

ROW = 10
"""Images per row."""

FRAME_MILLISECONDS, LAST_FRAME_MILLISECONDS = 250, 2_500

SCALE, LINES = 2, 64
"""Scale factor of the images, and grey level of the lines between them."""


def as_images(page: Tensor) -> Tensor:
    """(N, P) or (N, C, H, W) -> (N, C, H, W)"""
    return page.view(-1, 1, 28, 28) if page.dim() == 2 else page


class Film:
    """Pages of images, one per selected epoch; part of the checkpoint, so that a resumed run keeps them.

    The epochs are evenly spaced on a logarithmic scale, because images change fastest at the start of training.
    """

    def __init__(self, epochs: int, pages: int = 24) -> None:
        self.epochs = {round(epochs ** (number / (pages - 1))) for number in range(pages)}
        self.pages: dict[int, Tensor] = {}

    def take(self, epoch: int, draw: Callable[[], Tensor]) -> None:
        """Store the (N, P) or (N, C, H, W) images in [0, 1] that `draw` returns, if the epoch is a selected one."""
        if epoch in self.epochs:
            self.pages[epoch] = draw().mul(255).round().to(torch.uint8)

    def first_rows(self, rows: int = 8) -> tuple[list[str], Tensor]:
        """Return the epochs of at most `rows` pages, and their first ten images, (rows * 10, C, H, W) in [0, 1]."""
        epochs = sorted(self.pages)
        chosen = epochs if len(epochs) <= rows else [epochs[n * (len(epochs) - 1) // (rows - 1)] for n in range(rows)]
        images = torch.cat([self.pages[epoch][:ROW] for epoch in chosen])
        return [f"epoch {epoch}" for epoch in chosen], as_images(images).float().div(255)

    def state_dict(self) -> dict[int, Tensor]:
        """Return the pages stored so far."""
        return self.pages

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Load the pages of a checkpoint."""
        self.pages = state

    def write(self, path: Path) -> None:
        """Write the pages as an animated GIF, each with its epoch above it."""
        write_gif(path, [(f"epoch {epoch}", as_images(page)) for epoch, page in self.pages.items()])


def write_gif(path: Path, pages: Sequence[tuple[str, Tensor]]) -> None:
    """Write an animated GIF of pages: a caption, and (N, C, H, W) uint8 images, ten in a row, grey or colour."""
    from PIL import Image, ImageDraw

    frames = []
    for caption, page in pages:
        framed = F.pad(page, (1, 1, 1, 1), value=LINES)
        count, channels, height, width = framed.shape
        rows = framed.view(count // ROW, ROW, channels, height, width).permute(0, 3, 1, 4, 2)
        pixels = rows.reshape(count // ROW * height, ROW * width, channels)
        sheet = Image.fromarray(pixels.squeeze(2).numpy() if channels == 1 else pixels.numpy())
        sheet = sheet.resize((SCALE * sheet.width, SCALE * sheet.height), Image.Resampling.NEAREST)
        frame = Image.new(sheet.mode, (sheet.width, sheet.height + 16))
        frame.paste(sheet, (0, 16))
        ImageDraw.Draw(frame).text((4, 2), caption, fill=255 if channels == 1 else (255, 255, 255))
        frames.append(frame)
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
