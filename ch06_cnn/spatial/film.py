"""Animated GIFs of attended regions: during the training, of a digit that turns, and of digits that are read in turn.

Dimensions: N images, S image size, S' size of the transformer's output, R regions of an image.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ch06_cnn.spatial.networks import sample
from ch06_cnn.spatial.transformer import region

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Colours of the regions of an image, in order."""
SHOWN = 6
"""Number of images of the film of the training."""
PANEL, GAP, TITLE = 120, 4, 16
"""Height and width of an image, gap between images, and height of the title, in pixels of the GIF."""
FRAME_MILLISECONDS, LAST_FRAME_MILLISECONDS = 200, 2_500


class Film:
    """Regions of some images at selected steps of the training; part of the checkpoint, so a resumed run keeps them.

    The steps are 0 and then evenly spaced on a logarithmic scale, because regions change fastest at the start.
    """

    def __init__(self, images: Tensor, steps: int, pages: int = 40) -> None:
        self.images = images[:SHOWN]
        self.steps = {0, *(round(steps ** (number / (pages - 2))) for number in range(pages - 1))}
        self.pages: dict[int, Tensor] = {}

    def take(self, step: int, attend: Callable[[Tensor], Tensor]) -> None:
        """Store the (N, R, 2, 3) transformations that `attend` returns, if the step is one of the selected ones."""
        if step in self.steps:
            self.pages[step] = attend(self.images).clone()

    def state_dict(self) -> dict[int, Tensor]:
        """Return the pages stored so far."""
        return self.pages

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Load the pages of a checkpoint."""
        self.pages = state

    def write(self, path: Path, crop_size: int) -> None:
        """Write the pages as an animated GIF, each with its step above it."""
        frames = [
            frame(self.images, theta, crop_size, title=f"training step {step:,}")
            for step, theta in sorted(self.pages.items())
        ]
        write_gif(path, frames)


def frame(images: Tensor, theta: Tensor, crop_size: int, *, title: str = "", shown: int | None = None) -> Tensor:
    """Draw (N, 1, S, S) uint8 images with the outlines of (N, R, 2, 3) regions, and the regions below: (H, W, 3) uint8

    With `shown`, only the first regions are drawn; the others stay empty.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    count, regions = theta.shape[:2]
    shown = regions if shown is None else shown
    edge = PANEL // regions
    width, height = count * (PANEL + GAP) + GAP, TITLE + PANEL + edge + 3 * GAP
    sheet = Image.new("RGB", (width, height), "#404040")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 2), title, fill="white")
    crops = sample(images.float(), theta, crop_size).view(count, regions, crop_size, crop_size)
    corners = ((region(theta) + 1) * PANEL / 2).tolist()
    for number in range(count):
        left, top = GAP + number * (PANEL + GAP), TITLE + GAP
        panel = Image.fromarray(images[number, 0].numpy()).resize((PANEL, PANEL)).convert("RGB")
        outline = ImageDraw.Draw(panel)
        for turn in range(shown):
            points = [(x, y) for x, y in corners[number][turn]]
            outline.line([*points, points[0]], fill=COLOURS[turn % len(COLOURS)], width=2)
            crop = crops[number, turn].round().clamp(0, 255).to(torch.uint8).numpy()
            place = (left + turn * edge, top + PANEL + GAP)
            sheet.paste(Image.fromarray(crop).resize((edge, edge)).convert("RGB"), place)
            box = (*place, place[0] + edge - 1, place[1] + edge - 1)
            draw.rectangle(box, outline=COLOURS[turn % len(COLOURS)])
        sheet.paste(panel, (left, top))
    return torch.from_numpy(np.array(sheet))


def write_gif(path: Path, frames: Sequence[Tensor]) -> None:
    """Write (H, W, 3) uint8 frames as an animated GIF."""
    from PIL import Image

    pictures = [Image.fromarray(picture.numpy()).quantize(64) for picture in frames]
    durations = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_FRAME_MILLISECONDS]
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
