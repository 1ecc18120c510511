"""Fast style transfer (Johnson et al. 2016): train a feed-forward network that gives any picture one style.

    python -m ch06_cnn.train fast_style
    python -m ch06_cnn.train fast_style --style painting.jpg --features vgg
    python -m ch06_cnn.train fast_style --data cifar-10
    python -m ch06_cnn.train fast_style --data FOLDER                   # pictures of a folder and its subfolders
    python -m ch06_cnn.stylise photograph.jpg                           # apply the newest network to a picture

The network minimises the objective of `style` for all training images instead of one picture. The run compares it with
the optimisation: seconds per picture, and the steps after which L-BFGS has a lower loss than the network.

Dimensions: B batch, N images, S side length of a training image, H, W height and width.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ch06_cnn.style import pictures, style
from ch06_cnn.style.crops import CropData, load_crops
from ch06_cnn.style.features import Choice, make_features
from ch06_cnn.style.film import Film
from ch06_cnn.style.losses import Objective
from ch06_cnn.style.network import STRIDE, StyleNetwork, stylise
from ch06_cnn.style.style import check_losses, read_pictures, weights_of
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.device import Timer
from common.run import Run, load_weights
from common.schedule import one_cycle_at

VALID = 16
"""Number of validation images."""
CLIP = 1.0
"""Maximum gradient norm; larger gradients are rescaled."""
CALLS = 5
"""Number of timed calls of the network; the fastest counts."""


@dataclass(frozen=True)
class Config:
    """Style, losses, network and training."""

    style: str = "strokes"
    """Style: a picture file, the generated strokes or mosaic, or one of the names of --content."""
    content: str = "china"
    """Picture for the figures and for the comparison with the optimisation: a file, china or flower, or astronaut,
    chelsea or coffee if scikit-image is installed."""
    size: int = 192
    """Length of the longer side of style and content picture in pixels, to which larger ones are reduced."""
    features: Choice = "random"
    """Network of the losses: random filters, our own VGG, EfficientNet-Lite0, or VGG-16."""
    folder: Path | None = None
    """Run folder of classics --network vgg, for --features own. Default: the newest finished run."""
    data: CropData = "photographs"
    """Training images: crops of the photographs that packages ship, CIFAR-10, the generated shapes, or a folder of
    pictures."""
    images: int = 200
    """Number of training images."""
    image_size: int = 64
    """Height and width of a training image in pixels."""
    width: int = 16
    """Channels of the network's first layer; the middle has four times as many."""
    blocks: int = 3
    """Number of residual blocks."""
    epochs: int = 6
    """Number of epochs."""
    batch_size: int = 4
    """Batch size in images, over all processes."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    content_weight: float = 1.0
    """Weight of the content loss."""
    style_weight: float = default_by("features", random=50.0, own=30.0, efficientnet=30.0, vgg=30.0)
    """Weight of the style loss. Default: 50 for random, 30 for the others."""
    variation_weight: float = 3.0
    """Weight of the total variation."""
    steps: int = 60
    """Maximum number of steps, of five iterations each, of the optimisation with which the network is compared."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "images", "width", "blocks", "epochs", "batch_size", "learning_rate", "steps")
        check_losses(self)
        fits = pictures.LEAST <= self.image_size <= 512 and self.image_size % STRIDE == 0
        require(fits, f"--image-size must be a multiple of {STRIDE} between {pictures.LEAST} and 512", self.image_size)


def train_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, objective: Objective, images: Tensor
) -> Tensor:
    """Take one gradient step on (B, 3, S, S) images in [0, 1], which are their own content; return the loss."""
    loss = objective(model(images), objective.content(images))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def train(config: Config) -> dict[str, float]:
    """Train the network and compare it with the optimisation; return losses, times and the speed-up."""
    content_picture, style_picture, _ = read_pictures(config.content, config.style, config.size)
    count = min(config.images, config.run.limit or config.images)
    crops, held_out, card = load_crops(config.data, config.image_size, (count, VALID), config.run.seed)
    network = make_features(config.features, config.folder, config.run.out)
    with Run.open(__name__, config, card, arithmetic="fp32") as run:
        objective = Objective(network.to(run.device), style_picture.to(run.device), weights_of(config))
        valid, shown = (part.to(run.device) for part in (pictures.as_floats(held_out), content_picture.unsqueeze(0)))
        valid_content, shown_content = objective.content(valid), objective.content(shown)
        batches = Batches(crops, batch_size=config.batch_size, device=run.device, generator=run.generator)
        model = StyleNetwork(config.width, config.blocks).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        steps = config.epochs * len(batches)
        film = Film(steps)
        for epoch in run.epochs(config.epochs, len(batches), model=model, optimizer=optimizer, film=film):
            for step, (images,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                film.take(step, lambda: stylise(model, shown))
                for group in optimizer.param_groups:
                    group["lr"] = one_cycle_at(step / steps, config.learning_rate, warm_up=0.1)
                loss = train_step(parallel, optimizer, objective, pictures.as_floats(images))
                run.step(loss, images=len(images))
            run.log(valid=objective.measures(stylise(model, valid), valid_content))
        film.take(steps, lambda: stylise(model, shown))
        run.save(model)
        result = stylise(model, shown)
        measures = objective.measures(result, shown_content)
        speeds, optimised = compare(model, objective, shown, measures["loss"], config)
        if run.is_main:
            report(run, shown[0], style_picture, result[0], optimised, film)
        return run.finish(run=measures | speeds)


def compare(
    model: StyleNetwork, objective: Objective, picture: Tensor, loss: float, config: Config
) -> tuple[dict[str, float], Tensor]:
    """Time the network on a (1, 3, H, W) picture, and the optimisation until its loss is below the network's.

    The optimisation starts from the picture and takes `config.steps` steps at most. Returns the seconds of both, the
    steps, whether the optimisation has reached the loss, and the speed-up, and the optimised (3, H, W) picture.
    """
    seconds = []
    for _ in range(CALLS):
        with Timer(picture.device) as timer:
            stylise(model, picture)
        seconds.append(timer.seconds)
    settings = style.Config(optimizer="lbfgs")
    canvas = style.make_canvas(settings, picture[0].cpu()).to(picture.device)
    optimizer = style.make_optimizer(canvas, settings)
    with Timer(picture.device) as timer:
        content = objective.content(picture)
        for taken in range(config.steps + 1):  # the loss of a step is that of the picture before it
            reached = float(style.train_step(canvas, optimizer, objective, content)) <= loss
            if reached or taken == config.steps:
                break
    return {
        "network_seconds": min(seconds),
        "optimisation_seconds": timer.seconds,
        "optimisation_steps": taken,
        "optimisation_reached": reached,
        "speed_up": timer.seconds / min(seconds),
    }, canvas().detach()[0]


def report(run: Run, content: Tensor, style_picture: Tensor, result: Tensor, optimised: Tensor, film: Film) -> None:
    """Draw the pictures and the learning curves; write the result and the film."""
    from ch06_cnn.style import visualise
    from common.drawing import plots

    visualise.write_picture(run, "result", result)
    named = {"content": content, "style": style_picture, "network": result, "optimisation, same loss": optimised}
    run.figure("pictures", visualise.row(named))
    panels = {"loss": ["train_loss", "valid_loss"], "parts": ["valid_content_loss", "valid_style_loss"]}
    run.figure("curves", plots.curves(run.history, panels, log=True))
    with run.writing("training.gif") as path:
        film.write(path)


def restore(folder: Path) -> tuple[StyleNetwork, Config]:
    """Load a trained network and its Config from a run folder."""
    config = read_config(folder, Config)
    model = StyleNetwork(config.width, config.blocks)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random images, for the device benchmark."""
    images = torch.rand(config.batch_size, 3, config.image_size, config.image_size, device=device)
    network = make_features(config.features, None, config.run.out, trained=False).to(device)
    objective = Objective(network, images[0].flip(1), weights_of(config))
    model = StyleNetwork(config.width, config.blocks).to(device)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    return Workload(lambda: train_step(model, optimizer, objective, images), items=len(images))
