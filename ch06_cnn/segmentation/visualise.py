"""Figures: images with true and predicted masks side by side, marked errors, and curves of the training.

Dimensions: N images, H, W height and width, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ch06_cnn.segmentation.evaluation import worst_errors
from common.data.masks.masked import VOID, MaskedImages
from common.drawing import plots
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 6
"""Number of images in a figure."""
WHITE = (255, 255, 255)
FALSE_CLASS, MISSED, FOUND = (230, 60, 50), (40, 110, 230), (60, 60, 60)
"""Colours of marked errors."""


def palette(classes: int) -> Tensor:
    """(256, 3) uint8 colours of Pascal VOC: black background, white void

    The bits 0, 3, 6 of a class are the highest bits of red, the bits 1, 4, 7 of green, and 2, 5 of blue. Classes after
    the last one are grey.
    """
    values = torch.arange(256)
    colours = torch.zeros(256, 3, dtype=torch.int64)
    for bit in range(8):
        colours[:, bit % 3] |= (values >> bit & 1) << (7 - bit // 3)
    colours[classes:] = 128
    colours[VOID] = torch.tensor(WHITE)
    return colours.to(torch.uint8)


def colour_masks(masks: Tensor, classes: int) -> Tensor:
    """(N, H, W) masks -> (N, 3, H, W) uint8 colours of the classes"""
    return palette(classes)[masks.long()].movedim(-1, 1)


def mark_errors(pixels: Tensor, masks: Tensor, guesses: Tensor) -> Tensor:
    """(N, 3, H, W) images -> the same in pale grey, with the wrong pixels in red"""
    pale = (160 + 0.35 * pixels.float().mean(1, keepdim=True)).to(torch.uint8).repeat(1, 3, 1, 1)
    wrong = ((masks != VOID) & (masks != guesses)).unsqueeze(1)
    return torch.where(wrong, torch.tensor(FALSE_CLASS, dtype=torch.uint8).view(1, 3, 1, 1), pale)


def legend(figure: Figure, colours: Mapping[str, Sequence[int]]) -> None:
    """Explain the colours below the figure."""
    patches = [
        Patch(facecolor="#" + bytes(colour).hex(), edgecolor="#888888", label=name) for name, colour in colours.items()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 8), fontsize="small")


def class_colours(names: Sequence[str], masks: Sequence[Tensor]) -> dict[str, list[int]]:
    """Return the colours of the classes that occur in masks, and of void."""
    colours = palette(len(names)).tolist()
    present = set(torch.cat([each.flatten() for each in masks]).unique().tolist())
    shown = {name: colours[number] for number, name in enumerate(names) if number in present}
    return shown | ({"void": colours[VOID]} if VOID in present else {})


def draw_rows(rows: Mapping[str, Tensor], colours: Mapping[str, Sequence[int]], *, size: float = 1.9) -> Figure:
    """Draw rows of (N, 3, H, W) uint8 images, each with its name, and a legend of the colours."""
    count = max(map(len, rows.values()))
    height, width = next(iter(rows.values())).shape[2:]
    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(size * count + 0.3, size * height / width * len(rows) + 0.5))
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # pyright: ignore
        grid = figure.subplots(len(rows), count, squeeze=False)
        for axes, (name, images) in zip(grid, rows.items(), strict=True):
            for place, image in zip(axes, images, strict=True):
                draw_image(place, image)
            axes[0].set_ylabel(name, fontsize="small")
        legend(figure, colours)
    return figure


def draw_image(axes: "Axes", image: Tensor) -> None:
    """Draw a (3, H, W) uint8 image without axes."""
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_predictions(images: MaskedImages, guesses: Tensor, names: Sequence[str]) -> Figure:
    """Draw images, true masks, predicted masks, and the wrong pixels."""
    rows = {
        "image": images.pixels,
        "true": colour_masks(images.masks, len(names)),
        "predicted": colour_masks(guesses, len(names)),
        "wrong pixels": mark_errors(images.pixels, images.masks, guesses),
    }
    return draw_rows(rows, class_colours(names, [images.masks, guesses]) | {"wrong": list(FALSE_CLASS)})


def mark_binary_errors(pixels: Tensor, masks: Tensor, guesses: Tensor) -> Tensor:
    """(N, 3, H, W) images -> the same in pale grey, with found, missed and false pixels of class 1 in colours"""
    marked = (150 + 0.4 * pixels.float().mean(1, keepdim=True)).to(torch.uint8).repeat(1, 3, 1, 1)
    for truth, guess, colour in ((1, 1, FOUND), (1, 0, MISSED), (0, 1, FALSE_CLASS)):
        here = ((masks == truth) & (guesses == guess)).unsqueeze(1)
        marked = torch.where(here, torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1), marked)
    return marked


def draw_binary_errors(images: MaskedImages, guesses: Mapping[str, Tensor], *, foreground: str = "membrane") -> Figure:
    """Draw an image, and for every method its correct, missed and false pixels of class 1."""
    panels = {"image": images.pixels[:1]}
    panels |= {
        name: mark_binary_errors(images.pixels[:1], images.masks[:1], masks[:1]) for name, masks in guesses.items()
    }
    colours = {"found": FOUND, "missed": MISSED, "false": FALSE_CLASS}
    height, width = images.masks.shape[1:]
    size = 3.6
    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(size * len(panels), size * height / width + 0.6))
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, panel) in zip(grid, panels.items(), strict=True):
            draw_image(axes, panel[0])
            axes.set_title(name, fontsize="small")
        legend(figure, {f"{kind} {foreground}": colour for kind, colour in colours.items()})
    return figure


def draw_overlay(pixels: Tensor, mask: Tensor, names: Sequence[str], *, size: float = 7.0) -> Figure:
    """Draw a (3, H, W) image beside the image with its (H, W) mask in half-transparent colours."""
    colours = colour_masks(mask.unsqueeze(0), len(names))[0].float()
    mixed = torch.where(mask == 0, pixels.float(), 0.45 * pixels.float() + 0.55 * colours).to(torch.uint8)
    height, width = mask.shape
    with mpl.rc_context(plots.LOOK):
        figure = Figure(figsize=(2 * size, size * height / width + 0.6))
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # pyright: ignore
        for axes, image in zip(figure.subplots(1, 2), (pixels, mixed), strict=True):
            draw_image(axes, image)
        present = {name: colour for name, colour in class_colours(names, [mask]).items() if name != names[0]}
        if present:
            legend(figure, present)
    return figure


def report(run: Run, test: MaskedImages, names: Sequence[str], guesses: Tensor, n: Tensor) -> None:
    """Draw the figures of a run."""
    first = slice(min(SHOWN, len(test)))
    run.figure("predictions", draw_predictions(test[first], guesses[first], names))
    worst = worst_errors(test.masks, guesses)[:SHOWN]
    if len(worst):
        run.figure("worst", draw_predictions(test[worst], guesses[worst], names))
        if len(names) == 2:
            one = worst[:1]
            figure = draw_binary_errors(test[one], {run.config.network: guesses[one]}, foreground=names[1])
            run.figure("errors", figure)
    shares = n / n.sum(1, keepdim=True).clamp(min=1)
    rows, columns = "class of a pixel", "predicted class"
    run.figure("confusion", plots.heat_map(shares, names, names, rows=rows, columns=columns))
    panels = {"loss": ["train_loss"]}
    if "valid_mean_iou" in run.history[-1]:
        panels["validation set"] = ["valid_mean_iou", "valid_pixel_accuracy"]
    run.figure("curves", plots.curves(run.history, panels))
