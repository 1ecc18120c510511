"""Figures of a run: attended regions and what the transformer passes on, errors, curves, and the films.

Dimensions: N images, S image size, S' size of the transformer's output, R regions of an image, K digits.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ch06_cnn.spatial.film import COLOURS, Film, frame, write_gif
from ch06_cnn.spatial.networks import CNN, sample
from ch06_cnn.spatial.transformer import region
from common.data.images.image_set import ImageSet, Split
from common.data.images.transformed import TRANSFORMATIONS, warp
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Predict = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(N, 1, S, S) uint8 images -> (N, K, 10) logits, (N, R, 2, 3) transformations"""

SHOWN = 8
"""Number of images in a figure."""
TURNS = 36
"""Number of frames of the film of a turning digit."""


def report(
    run: Run,
    model: nn.Module,
    predict: Predict,
    data: ImageSet,
    test: Split,
    outputs: tuple[Tensor, Tensor],
    film: Film,
) -> None:
    """Draw the figures of a run and write its films."""
    from common.drawing import plots

    (logits, theta), task = outputs, run.config.task
    predictions = logits.argmax(2)
    panels = {"loss": ["train_loss", "valid_loss"], "error rate": ["valid_error_rate"]}
    run.figure("curves", plots.curves(run.history, panels))
    run.figure("confusion", plots.confusion_matrix(test.labels.flatten(), predictions.flatten(), data.class_names))
    crop_size = 0 if isinstance(model, CNN) else run.config.crop_size
    for name, chosen in (("regions", torch.arange(len(test))), ("mistakes", most_certain_errors(logits, test.labels))):
        if len(chosen := chosen[:SHOWN]):
            titles = [titled(test.labels[i], predictions[i]) for i in chosen.tolist()]
            run.figure(name, draw_regions(test.pixels[chosen], theta[chosen], crop_size, titles))
    if isinstance(model, CNN):
        return
    with run.writing("training.gif") as path:
        film.write(path, crop_size)
    if task == "sequence":
        with run.writing("reading.gif") as path:
            write_gif(path, reading(test.pixels[:4], theta[:4], predictions[:4], crop_size))
    elif TRANSFORMATIONS[task].warps:
        with run.writing("turning.gif") as path:
            write_gif(path, turning(predict, data.test, task, crop_size))


def most_certain_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, K, 10) logits, (N, K) labels -> images with an error, the least probable classes first"""
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)
    wrong = (logits.argmax(2) != labels).any(1)
    return losses.where(wrong, -1.0).argsort(descending=True)[: int(wrong.sum())]


def titled(labels: Tensor, predictions: Tensor) -> str:
    """(K,) classes, (K,) predictions -> `357`, or `357 → 351` if one is wrong"""
    classes, predicted = ("".join(map(str, numbers.tolist())) for numbers in (labels, predictions))
    return classes if classes == predicted else f"{classes} → {predicted}"


def draw_regions(images: Tensor, theta: Tensor, crop_size: int, titles: Sequence[str]) -> "Figure":
    """Draw (N, 1, S, S) images with the outlines of (N, R, 2, 3) regions; below, what the transformer passes on."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from common.drawing.plots import LOOK

    size, regions = images.shape[-1], theta.shape[1]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(1.25 * len(images), 1.45 + 1.25 * regions))
        grid = figure.subplots(1 + regions, len(images), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for number, (axes, image) in enumerate(zip(grid[0], images, strict=True)):
            axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255)
            axes.set(title=titles[number], xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
            for turn, corners in enumerate(((region(theta[number]) + 1) * size / 2 - 0.5).tolist()):
                x, y = zip(*corners, corners[0], strict=True)
                axes.plot(x, y, color=COLOURS[turn % len(COLOURS)], linewidth=1.5)
        if regions:
            crops = sample(images.float(), theta, crop_size).view(len(images), regions, crop_size, crop_size)
            for number in range(len(images)):
                for turn in range(regions):
                    grid[1 + turn, number].imshow(crops[number, turn].numpy(), cmap="gray", vmin=0, vmax=255)
    return figure


def reading(images: Tensor, theta: Tensor, predictions: Tensor, crop_size: int) -> list[Tensor]:
    """Draw frames in which the regions of (N, 1, S, S) images appear one after the other, with the predicted digits."""
    frames = []
    for shown in range(theta.shape[1] + 1):
        read = ["".join(map(str, row[:shown])) or "-" for row in predictions.tolist()]
        picture = frame(images, theta, crop_size, title="read so far: " + "   ".join(read), shown=shown)
        frames += [picture] * 4  # each digit for four frames
    return frames


def turning(predict: Predict, digits: Split, task: str, crop_size: int) -> list[Tensor]:
    """Draw frames of six digits that turn to and fro by the task's largest angle, and move if the task has them move.

    The digits are the first ones of six different classes.
    """
    transformation = TRANSFORMATIONS[task]
    chosen = [int((digits.labels == label).int().argmax()) for label in digits.labels.unique()[:6].tolist()]
    images, frames = digits.pixels[chosen], []
    for number in range(TURNS):
        phase = 2 * math.pi * number / TURNS
        angle = torch.full((len(images),), math.radians(transformation.angle) * math.sin(phase))
        room = (transformation.size - images.shape[-1]) / 2 * transformation.moved
        centre = room * torch.tensor([math.cos(phase), math.sin(phase)]).expand(len(images), 2)
        moved = warp(images, angle, torch.ones(len(images)), centre, transformation.size)
        moved = moved.to(torch.uint8).unsqueeze(1)
        logits, theta = predict(moved)
        read = "".join(map(str, logits.argmax(2)[:, 0].tolist()))
        title = f"angle {math.degrees(float(angle[0])):+.0f} degrees, read as {read}"
        frames.append(frame(moved, theta, crop_size, title=title))
    return frames
