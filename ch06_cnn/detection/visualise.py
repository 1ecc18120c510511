"""Detections, errors and precision-recall curves as pictures.

Dimensions: N images, H, W height and width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ch06_cnn.detection.average_precision import Detections, curves
from ch06_cnn.detection.evaluation import SHOWN, Errors
from common.data.boxes.boxed import BoxedImages
from common.drawing import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#ff3b30", "#34c759", "#0a84ff", "#ffd60a", "#bf5af2", "#ff9f0a", "#64d2ff", "#ffffff")
"""Colours of the classes."""


@dataclass(frozen=True)
class Drawn:
    """A box to draw."""

    box: Sequence[float]
    colour: str
    text: str = ""
    style: str = "-"


def found_boxes(detections: Detections, image: int, names: Sequence[str], threshold: float = SHOWN) -> list[Drawn]:
    """List the detections of an image with at least this score, with class and score."""
    chosen = (detections.scores[image] >= threshold).nonzero().squeeze(1).tolist()
    return [
        Drawn(
            detections.boxes[image, place].tolist(),
            COLOURS[int(detections.labels[image, place]) % len(COLOURS)],
            f"{names[int(detections.labels[image, place])]} {float(detections.scores[image, place]):.2f}",
        )
        for place in chosen
    ]


def draw_boxes(images: Sequence[Tensor], boxes: Sequence[list[Drawn]], *, columns: int, size: float = 2.2) -> Figure:
    """Draw (3, H, W) uint8 images with their boxes."""
    rows = -(-len(images) // columns)
    proportion = images[0].shape[1] / images[0].shape[2]
    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(size * columns, size * rows * proportion))
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # pyright: ignore
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, image, drawn in zip(grid.flat, images, boxes, strict=False):
            draw_image(axes, image, drawn)
    return figure


def draw_image(axes: "Axes", image: Tensor, boxes: Sequence[Drawn], *, linewidth: float = 1.2) -> None:
    """Draw an image and its boxes; the left edge of the first pixel is 0."""
    height, width = image.shape[1:]
    axes.imshow(image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0))
    for each in boxes:
        left, top, right, bottom = each.box
        corner = (left, top)
        patch = Rectangle(
            corner, right - left, bottom - top, fill=False, edgecolor=each.colour, linestyle=each.style, lw=linewidth
        )
        axes.add_patch(patch)
        if each.text:
            box = {"facecolor": each.colour, "alpha": 0.85, "pad": 0.6, "linewidth": 0}
            below = each.style != "-"  # at the lower edge, so that the texts of two equal boxes do not overlap
            place = min(bottom, 0.94 * height) if below else max(top, 0.06 * height)  # not outside the image
            axes.text(
                max(left, 0), place, each.text, color="black", fontsize=6.5, va="top" if below else "bottom",
                bbox=box, clip_on=True,
            )  # fmt: skip


def draw_detections(detections: Detections, truth: BoxedImages, names: Sequence[str], *, count: int = 8) -> Figure:
    """Draw the detections on the first images of a split."""
    shown = range(min(count, len(truth)))
    boxes = [found_boxes(detections, image, names) for image in shown]
    return draw_boxes([truth.pixels[image] for image in shown], boxes, columns=4, size=2.6)


def draw_errors(
    detections: Detections, truth: BoxedImages, names: Sequence[str], errors: Sequence[Errors], *, count: int = 8
) -> Figure:
    """Draw the images with the worst errors: wrong detections solid, missed boxes dashed."""
    boxes = []
    for each in errors[:count]:
        found = found_boxes(detections, each.image, names)
        missed = [
            Drawn(truth.boxes[each.image, place].tolist(), "#ffffff", names[int(truth.labels[each.image, place])], "--")
            for place in each.missed
        ]
        boxes.append([found[place] for place in each.wrong] + missed)
    return draw_boxes([truth.pixels[each.image] for each in errors[:count]], boxes, columns=4, size=2.6)


def draw_curves(detections: Detections, truth: BoxedImages, names: Sequence[str]) -> Figure:
    """Draw precision over recall of each class at an IoU of 0.5."""
    lines: dict[str, plots.Line] = {}
    for name, (precision, recall) in zip(names, curves(detections, truth, len(names)), strict=True):
        if len(precision):
            lines[name] = (recall.tolist(), precision.tolist())
    panels = {"IoU of at least 0.5": lines}
    return plots.line_panels(panels, columns=1, xlabel="recall", ylabel="precision", ylim=(0, 1.02), size=1.6)
