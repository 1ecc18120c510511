"""Figures of a diffusion model: samples, the path from noise to an image, an animation of the denoising.

Dimensions: N images, C channels, H height, W width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch08_vae.diffusion.network import UNet
from ch08_vae.diffusion.sampling import Sampler, denoise
from ch08_vae.diffusion.schedule import Schedule
from ch08_vae.film import ROW, Film, write_gif
from ch08_vae.preprocessing import CLASSES
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 11
"""Number of times in the figure of a path, including both ends."""


FRAMES = 20
"""Maximum number of frames of the animation after the noise."""


def visible(x: Tensor) -> Tensor:
    """(N, C, H, W) in [-1, 1], or noise beyond -> images in [0, 1] on the CPU"""
    return x.add(1).div(2).clamp(0, 1).cpu()


def trace(
    model: UNet, schedule: Schedule, noise: Tensor, classes: Tensor, sampler: Sampler, *, bf16: bool = False
) -> list[tuple[int, Tensor, Tensor]]:
    """(N, C, H, W) noise -> time, x_t and predicted x_0 as images in [0, 1], from the first step to the last"""
    steps = denoise(model, schedule, noise, classes, sampler, no_class=CLASSES, bf16=bf16)
    return [(t, visible(x), visible(x_0)) for t, x, x_0 in steps]


def report(
    run: Run,
    model: UNet,
    schedule: Schedule,
    samples: Tensor,
    classes: Tensor,
    compared: Mapping[str, Mapping[str, float]],
    film: Film,
    shape: Sequence[int],
) -> None:
    """Draw all figures of a run, and write the animations of the training and of the denoising."""
    from common.drawing import plots

    run.figure("samples", plots.image_grid(samples, columns=ROW, size=0.5))
    noise = torch.randn((len(classes), *shape), device=classes.device)
    sampler: Sampler = run.config.settings
    path = trace(model, schedule, noise, classes, sampler, bf16=run.bf16)
    run.figure("path", draw_path(schedule, visible(noise), path))
    names, images = film.first_rows()
    run.figure("training", plots.image_grid(images, columns=ROW, row_names=names, size=0.5))
    if compared:
        run.figure("samplers", draw_comparison(compared))
    run.figure("curves", draw_curves(run.history))
    with run.writing("training.gif") as file:
        film.write(file)
    with run.writing("denoising.gif") as file:
        write_film(file, schedule, visible(noise), path)


def write_film(file: Path, schedule: Schedule, noise: Tensor, path: list[tuple[int, Tensor, Tensor]]) -> None:
    """Write the first ten images of a path as an animated GIF: the noise, then at most 20 frames, in eight levels."""
    every = -(-len(path) // FRAMES)
    shown = [(t, x) for t, x, _ in path[::-1][::every][::-1]]  # with the last one
    frames = [(schedule.steps, noise), *shown]
    write_gif(file, [(f"t = {t}", x[:ROW].mul(7).round().mul(36).to(torch.uint8)) for t, x in frames])


def draw_path(schedule: Schedule, noise: Tensor, path: list[tuple[int, Tensor, Tensor]]) -> "Figure":
    """Draw the first two images of a path: x_t, and below it the image that the network predicts from it."""
    from common.drawing import plots

    times = [schedule.steps, *(t for t, _, _ in path)]
    states = [noise, *(x for _, x, _ in path)]
    predictions = [*(x_0 for _, _, x_0 in path), torch.ones_like(noise)]  # the last state is the image itself
    shown = [round(number * len(path) / (SHOWN - 1)) for number in range(SHOWN)]
    rows = [each[n][image] for image in range(min(2, len(noise))) for each in (states, predictions) for n in shown]
    titles = [f"t = {times[n]}" for n in shown]
    names = [r"$x_t$", r"predicted $x_0$"] * (len(rows) // (2 * SHOWN))
    return plots.image_grid(torch.stack(rows), columns=SHOWN, titles=titles, row_names=names, size=0.75)


def draw_comparison(compared: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Draw the Fréchet distance, and the accuracy if there are classes, over guidance scales and numbers of steps."""
    from common.drawing import plots

    panels = {}
    for kind, title in (("guidance", "guidance scale"), ("steps", "DDIM steps")):
        points = {int(name.rpartition("_")[2]): found for name, found in compared.items() if name.startswith(kind)}
        for measure, shown in (("frechet_distance", "Fréchet distance"), ("accuracy", "accuracy")):
            line = [(x, found[measure]) for x, found in points.items() if measure in found]
            if line:
                x, y = zip(*line, strict=True)
                panels[f"{shown} over {title}"] = {shown: (x, y)}
    names = ("Fréchet distance", "accuracy")
    return plots.line_panels(panels, columns=2, marked=names, size=1.2)


def draw_curves(history: list[dict[str, float]]) -> "Figure":
    """Draw the losses and, where they were measured, the Fréchet distance and the number of classes over the epochs."""
    from common.drawing import plots

    names = {"loss": ["train_loss", "valid_loss"], "Fréchet distance": ["valid_frechet_distance"]}
    names["classes covered"] = ["valid_classes"]
    panels = {}
    for title, metrics in names.items():
        for metric in metrics:
            rows = [row for row in history if metric in row]
            if rows:
                line = [row["epoch"] for row in rows], [row[metric] for row in rows]
                panels.setdefault(title, {})[metric.replace("_", " ")] = line
    marked = ("valid frechet distance", "valid classes")
    return plots.line_panels(panels, columns=len(panels), xlabel="epoch", marked=marked, size=1.3)
