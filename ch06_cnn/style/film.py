"""Pictures at selected steps of an optimisation or a training, written as an animated GIF.

Dimensions: H, W height and width.
"""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ch06_cnn.style.pictures import as_bytes

FRAME_MILLISECONDS, LAST_FRAME_MILLISECONDS = 150, 2_500
PAGES = 36
"""Number of pictures; fewer if there are fewer steps."""


class Film:
    """Pictures at selected steps; part of the checkpoint, so that a resumed run keeps them.

    The steps are 0 and then evenly spaced on a logarithmic scale, because the picture changes fastest at the start.
    """

    def __init__(self, steps: int) -> None:
        self.steps = {0, *(round(steps ** (number / (PAGES - 2))) for number in range(PAGES - 1))}
        self.pages: dict[int, Tensor] = {}

    def take(self, step: int, draw: Callable[[], Tensor]) -> None:
        """Store the (1, 3, H, W) picture in [0, 1] that `draw` returns, if the step is one of the selected ones."""
        if step in self.steps:
            self.pages[step] = as_bytes(draw()[0])

    def state_dict(self) -> dict[int, Tensor]:
        """Return the pages stored so far."""
        return self.pages

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Load the pages of a checkpoint."""
        self.pages = state

    def write(self, path: Path) -> None:
        """Write the pages as an animated GIF, each with its step below it."""
        from PIL import Image, ImageDraw

        frames = []
        for step, page in sorted(self.pages.items()):
            picture = Image.fromarray(page.permute(1, 2, 0).numpy())
            sheet = Image.new("RGB", (picture.width, picture.height + 14), "black")
            sheet.paste(picture, (0, 0))
            ImageDraw.Draw(sheet).text((3, picture.height + 1), f"step {step:,}", fill="white")
            frames.append(sheet.quantize(128))
        durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
