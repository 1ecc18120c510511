"""Compare feature networks: the same content, style and optimisation, with the losses of one network after the other.

    python -m ch06_cnn.train style_features
    python -m ch06_cnn.train style_features --features random vgg --content flower --style mosaic --size 256

Networks whose weights are not on this machine are skipped. The losses of two networks are not comparable, since their
features differ; the pictures and the seconds are.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ch06_cnn.style import style
from ch06_cnn.style.features import Choice, find_vgg, make_features
from common.config import RunOptions, require, require_positive
from common.data.source import DataUnavailable
from common.progress import print_table, say
from common.run import Run
from common.run_folders.folder import newest_run

TITLES = {"random": "random filters", "own": "our VGG-11", "efficientnet": "EfficientNet-Lite0", "vgg": "VGG-16"}
"""Titles of the results by network."""


@dataclass(frozen=True)
class Config:
    """Pictures, networks and number of steps."""

    content: str = "china"
    """Content: a picture file, china or flower, or astronaut, chelsea or coffee if scikit-image is installed."""
    style: str = "strokes"
    """Style: a picture file, the generated strokes or mosaic, or one of the names of --content."""
    size: int = 128
    """Length of the longer side in pixels, to which larger pictures are reduced."""
    features: tuple[Choice, ...] = ("random", "own", "efficientnet", "vgg")
    """Networks: random filters, our own VGG, EfficientNet-Lite0, VGG-16. Those without weights are skipped."""
    folder: Path | None = None
    """Run folder of classics --network vgg, for our own VGG. Default: the newest finished run."""
    epochs: int = 4
    """Number of epochs of each optimisation."""
    steps: int = 6
    """Number of steps of an epoch. A step has five iterations of L-BFGS."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32"))

    def __post_init__(self) -> None:
        require(len(self.features) > 0, f"--features must name at least one of {', '.join(TITLES)}", "none")
        require_positive(self, "epochs", "steps")
        style.Config(size=self.size)


def available(config: Config) -> dict[Choice, Path | None]:
    """Return the networks whose weights are on this machine, and the run folder of our own VGG.

    Raises ValueError if there is none.
    """
    found: dict[Choice, Path | None] = {}
    for name in dict.fromkeys(config.features):
        try:
            folder = (config.folder or find_vgg(config.run.out)) if name == "own" else None
            make_features(name, folder, config.run.out)
            found[name] = folder
        except (DataUnavailable, FileNotFoundError) as error:
            say("skipped", f"{name}: {error}")
    require(
        len(found) > 0, "--features must name a network whose weights are on this machine", " ".join(config.features)
    )
    return found


def train(config: Config) -> dict[str, float]:
    """Optimise the picture once for each network; return the seconds and the losses of each."""
    content_picture, style_picture, card = style.read_pictures(config.content, config.style, config.size)
    networks = available(config)
    with Run.open(__name__, config, card, arithmetic="fp32") as run:
        named, metrics = {"content": content_picture, "style": style_picture}, {}
        for name, folder in networks.items():
            out = run.folder / "networks" / name
            own = style.Config(
                content=config.content,
                style=config.style,
                size=config.size,
                features=name,
                folder=folder,
                epochs=config.epochs,
                steps=config.steps,
                run=replace(config.run, out=out, resume=False),
            )
            results = style.train(own)
            canvas, _ = style.restore(newest_run(out, style))
            named[TITLES[name]] = canvas().detach()[0]
            metrics |= {f"{name}_{measure}": value for measure, value in results.items()}
        if run.is_main:
            report(run, named, metrics, list(networks))
        return run.finish(run=metrics)


def report(run: Run, named: dict[str, Tensor], metrics: dict[str, float], networks: list[Choice]) -> None:
    """Draw all pictures in one row, and print the seconds of each network."""
    from ch06_cnn.style import visualise

    run.figure("features", visualise.row(named))
    rows = [[TITLES[name], f"{metrics[f'{name}_train_seconds']:.1f}"] for name in networks]
    print_table(["features", "seconds"], rows)
