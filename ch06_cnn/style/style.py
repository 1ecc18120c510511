"""Neural style transfer (Gatys et al. 2016): optimise the pixels of a picture for content and style.

    python -m ch06_cnn.train style
    python -m ch06_cnn.train style --content flower --style mosaic
    python -m ch06_cnn.train style --content photograph.jpg --style painting.jpg --size 256
    python -m ch06_cnn.train style --features vgg --optimizer adam

The objective is a weighted sum of three losses (losses.py). Its gradient with respect to the pixels passes through a
frozen network, whose feature maps define content and style (features.py).

Dimensions: H, W height and width of the picture.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ch06_cnn.style import pictures
from ch06_cnn.style.features import Choice, make_features
from ch06_cnn.style.film import Film
from ch06_cnn.style.losses import Maps, Objective, Weights
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.source import DataCard, sha256_of
from common.run import Run, load_weights

MOST = 2_048
"""Largest --size: the feature maps of larger pictures need many gigabytes."""
MARGIN = 0.02
"""Distance from 0 and 1 to which the pixels of the first picture are moved; the logits of 0 and 1 are infinite."""
ITERATIONS = 5
"""Iterations of the optimizer in a step."""
HISTORY = 10
"""Number of earlier gradients from which L-BFGS approximates the curvature."""


@dataclass(frozen=True)
class Config:
    """Pictures, losses and optimisation."""

    content: str = "china"
    """Content: a picture file, china or flower, or astronaut, chelsea or coffee if scikit-image is installed."""
    style: str = "strokes"
    """Style: a picture file, the generated strokes or mosaic, or one of the names of --content."""
    size: int = 192
    """Length of the longer side in pixels, to which larger pictures are reduced."""
    features: Choice = "random"
    """Network of the losses: random filters, our own VGG, EfficientNet-Lite0, or VGG-16."""
    folder: Path | None = None
    """Run folder of classics --network vgg, for --features own. Default: the newest finished run."""
    start: Literal["content", "noise"] = "content"
    """Picture from which the optimisation starts."""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """Optimizer of the pixels: L-BFGS as in the paper, or Adam."""
    learning_rate: float = default_by("optimizer", lbfgs=1.0, adam=0.02)
    """Learning rate. Default: 1 for lbfgs, 0.02 for adam."""
    epochs: int = 5
    """Number of epochs, after each of which the losses are recorded."""
    steps: int = 6
    """Number of steps of an epoch. A step has five iterations of the optimizer."""
    content_weight: float = 1.0
    """Weight of the content loss."""
    style_weight: float = default_by("features", random=50.0, own=30.0, efficientnet=30.0, vgg=30.0)
    """Weight of the style loss. Default: 50 for random, 30 for the others."""
    variation_weight: float = 3.0
    """Weight of the total variation."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "learning_rate", "epochs", "steps")
        check_losses(self)


def check_losses(config: Any) -> None:
    """Check the settings of pictures and losses, which `fast_style` has too."""
    require(pictures.LEAST <= config.size <= MOST, f"--size must be between {pictures.LEAST} and {MOST}", config.size)
    for name in ("content", "style", "variation"):
        weight = getattr(config, f"{name}_weight")
        require(0 <= weight < float("inf"), f"--{name}-weight must be at least 0", weight)
    given = config.folder is None or config.features == "own"
    require(given, "--folder is for --features own", config.features)


class Canvas(nn.Module):
    """A picture as parameters: the logits of its pixels, so that every value is a valid picture."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        inside = MARGIN + (1 - 2 * MARGIN) * picture
        self.logits = nn.Parameter((inside / (1 - inside)).log())

    def forward(self) -> Tensor:
        """-> (1, 3, H, W) in (0, 1)"""
        return self.logits.sigmoid()


def read_pictures(content: str, style: str, size: int) -> tuple[Tensor, Tensor, DataCard]:
    """Read content (3, H, W) and style picture (3, H', W') in [0, 1], and describe them."""
    pair = pictures.read(content, size), pictures.read(style, size)
    shapes = [
        f"{Path(name).name}, {one.shape[2]} x {one.shape[1]}" for name, one in zip((content, style), pair, strict=True)
    ]
    embedded = all(name in pictures.GENERATED or name in pictures.PHOTOGRAPHS for name in (content, style))
    name = f"{Path(content).stem} in the style of {Path(style).stem}"
    card = DataCard(name, embedded, sha256_of(*pair), f"content {shapes[0]}; style {shapes[1]}")
    return pictures.as_floats(pair[0]), pictures.as_floats(pair[1]), card


def weights_of(config: Any) -> Weights:
    """Return the weights of the losses that a Config has."""
    return Weights(config.content_weight, config.style_weight, config.variation_weight)


def make_canvas(config: Config, content: Tensor) -> Canvas:
    """Start from the (3, H, W) content picture, or from uniform noise."""
    start = content.clone() if config.start == "content" else torch.rand(content.shape)
    return Canvas(start.unsqueeze(0))


def make_optimizer(canvas: Canvas, config: Config) -> torch.optim.Optimizer:
    """Create the optimizer of the picture.

    Without a line search, L-BFGS diverged when it started from noise.
    """
    if config.optimizer == "adam":
        return torch.optim.Adam(canvas.parameters(), config.learning_rate)
    return torch.optim.LBFGS(
        canvas.parameters(),
        config.learning_rate,
        max_iter=ITERATIONS,
        history_size=HISTORY,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )


def train_step(canvas: Canvas, optimizer: torch.optim.Optimizer, objective: Objective, content: Maps) -> Tensor:
    """Take ITERATIONS gradient steps on the picture; return the loss before them."""

    def evaluate() -> float:
        optimizer.zero_grad()
        loss = canvas.logits.numel() * objective(canvas(), content)  # a pixel's gradient does not depend on the size
        loss.backward()
        return float(loss.detach())

    calls = 1 if isinstance(optimizer, torch.optim.LBFGS) else ITERATIONS  # L-BFGS counts its iterations itself
    losses = [optimizer.step(evaluate) for _ in range(calls)]
    return torch.tensor(losses[0]) / canvas.logits.numel()


def train(config: Config) -> dict[str, float]:
    """Optimise the picture and return its losses."""
    content_picture, style_picture, card = read_pictures(config.content, config.style, config.size)
    network = make_features(config.features, config.folder, config.run.out)
    with Run.open(__name__, config, card, arithmetic="fp32") as run:
        require(distributed.world_size() == 1, "style runs in one process", distributed.world_size())
        content_picture, style_picture = content_picture.to(run.device), style_picture.to(run.device)
        objective = Objective(network.to(run.device), style_picture, weights_of(config))
        content = objective.content(content_picture.unsqueeze(0))
        canvas = make_canvas(config, content_picture.cpu()).to(run.device)
        optimizer = make_optimizer(canvas, config)
        film = Film(config.epochs * config.steps)
        for epoch in run.epochs(config.epochs, config.steps, canvas=canvas, optimizer=optimizer, film=film):
            for step in range((epoch - 1) * config.steps, epoch * config.steps):
                film.take(step, canvas)
                run.step(train_step(canvas, optimizer, objective, content), steps=1)
            run.log(run=objective.measures(canvas(), content))
        film.take(config.epochs * config.steps, canvas)
        run.save(canvas)
        if run.is_main:
            report(run, content_picture, style_picture, canvas().detach(), film)
        return run.finish(run=objective.measures(canvas(), content))


def report(run: Run, content: Tensor, style: Tensor, result: Tensor, film: Film) -> None:
    """Write the result, its film, a figure of the three pictures, and the losses over the optimisation."""
    from ch06_cnn.style import visualise
    from common.drawing import plots

    visualise.write_picture(run, "result", result[0])
    run.figure("pictures", visualise.row({"content": content, "style": style, "result": result[0]}))
    run.figure("curves", plots.curves(run.history, {"losses": ["content_loss", "style_loss"]}, log=True))
    with run.writing("optimisation.gif") as path:
        film.write(path)


def restore(folder: Path) -> tuple[Canvas, Config]:
    """Load the optimised picture and its Config from a run folder."""
    from safetensors import safe_open

    config = read_config(folder, Config)
    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: has this run finished?")
    with safe_open(path, "pt") as file:
        shape = file.get_slice("logits").get_shape()
    canvas = Canvas(torch.zeros(shape))
    load_weights(canvas, folder)
    return canvas.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """One step of the optimisation of a random square picture, for the device benchmark."""
    picture = torch.rand(3, config.size, config.size, device=device)
    network = make_features(config.features, None, config.run.out, trained=False).to(device)
    objective = Objective(network, picture.flip(1), weights_of(config))
    content = objective.content(picture.unsqueeze(0))
    canvas = make_canvas(config, picture.cpu()).to(device)
    optimizer = make_optimizer(canvas, config)
    return Workload(lambda: train_step(canvas, optimizer, objective, content), items=1, unit="steps")
