"""Figures of style transfer: pictures side by side, and pictures as PNG files.

Dimensions: H, W height and width.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from ch06_cnn.style.pictures import as_bytes
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def row(named: Mapping[str, Tensor], *, height: float = 2.6) -> "Figure":
    """Draw (3, H, W) pictures in [0, 1] of any sizes side by side at the same height, each with its title."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from common.drawing.plots import LOOK

    widths = [picture.shape[2] / picture.shape[1] for picture in named.values()]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(height * sum(widths) + 0.1 * len(widths), height + 0.3))
        grid = figure.subplots(1, len(named), squeeze=False, width_ratios=widths)[0]
        for axes, (title, picture) in zip(grid, named.items(), strict=True):
            axes.imshow(as_bytes(picture).permute(1, 2, 0).numpy())
            axes.set(title=title)
            axes.set_axis_off()
    return figure


def write_picture(run: Run, name: str, picture: Tensor) -> None:
    """Write a (3, H, W) picture in [0, 1] as `<name>.png` into the folder of a run."""
    from PIL import Image

    with run.writing(f"{name}.png") as path:
        Image.fromarray(as_bytes(picture).permute(1, 2, 0).numpy()).save(path, format="PNG")
