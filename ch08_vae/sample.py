"""Draw digits with what the vae program has learned.

    python -m ch08_vae.sample --count 16
    python -m ch08_vae.sample --digit 7                # of a conditional model
    python -m ch08_vae.sample --interpolate 3 8        # from a three to an eight

The picture is written into the run's folder, or where --picture says.

Dimensions: P pixels (784), Z latent units, K classes (10).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ch08_vae import vae
from ch08_vae.evaluation import decoded, posterior
from ch08_vae.networks import CLASSES, VAE
from ch08_vae.pictures import classes_in_turn, path_between, tiles
from ch08_vae.preprocessing import fixed
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.images.loading import load_images
from common.data.source import option_of
from common.files import atomic_path, explain_unwritable, read_json
from common.folder import newest_run
from common.progress import say

DOOR = "python -m ch08_vae.sample"

STEPS = 12
"""Drawings on the way from one digit to another."""


@dataclass(frozen=True)
class Options:
    """What to draw."""

    count: int = 16
    """How many drawings; of an interpolation, how many ways from other images of the two digits."""
    digit: int | None = None
    """Which class to draw; the model must be conditional."""
    interpolate: tuple[int, int] | None = None
    """Two classes: start at a test image of the first, end at one of the second."""
    seed: int = 0
    """Seed of the dice."""
    picture: Path | None = None
    """File to write, as drawing.png; by default sample-*.png in the run's folder."""
    folder: Path | None = None
    """Run folder of the vae program; by default the newest finished one."""
    out: Path = Path("runs")
    """Where runs are looked for."""

    def __post_init__(self) -> None:
        require_positive(self, "count")
        named = [*(self.interpolate or ()), *([] if self.digit is None else [self.digit])]
        for digit in named:
            require(0 <= digit < CLASSES, f"a class is a number from 0 to {CLASSES - 1}", digit)
        rule = "--picture must be a file with an ending, as drawing.png"
        require(self.picture is None or self.picture.suffix != "", rule, self.picture)
        require(self.digit is None or self.interpolate is None, "draw --digit or --interpolate, not both", "both")


def draw_from_prior(model: VAE, options: Options, generator: torch.Generator) -> Tensor:
    """(N, P) drawings of random points; a conditional model draws the digit asked for, or all in turn.

    Raises ValueError where a digit is asked of a model that was never told one.
    """
    if options.digit is not None and not model.conditional:
        raise ValueError(
            "this model draws what it likes: for --digit, train one with python -m ch08_vae.train vae --conditional, "
            "or name such a run with --folder"
        )
    z = torch.randn(options.count, model.latent_size, generator=generator)
    condition = classes_in_turn(-(-options.count // CLASSES), model)
    if condition is not None:
        condition = condition[: options.count]
        if options.digit is not None:
            condition = F.one_hot(torch.full((options.count,), options.digit), CLASSES).float()
    return decoded(model, z, condition)


def draw_on_the_way(
    model: VAE, config: vae.Config, folder: Path, ends: tuple[int, int], options: Options, generator: torch.Generator
) -> Tensor:
    """(N * STEPS, P) drawings on straight ways between the codes of test images of two classes.

    Raises ValueError where the data are others than those of the run, or lack a class.
    """
    card = read_json(folder / "config.json")["data"]
    data = load_images(option_of(card))
    if data.card.sha256 != card["sha256"]:
        raise ValueError(f"{folder} was trained on other data than lie there now: train anew")
    chosen = []
    for digit in ends:
        images = (data.test.labels == digit).nonzero().flatten()
        require(len(images) > 0, f"--interpolate needs test images of class {digit}", "none")
        chosen.append(images[torch.randperm(len(images), generator=generator)[: options.count]])
    test, ways = fixed(data.test.pixels, config.binarisation), []
    for start, end in zip(*chosen, strict=False):  # the rarer class says how many
        pair = torch.stack([start, end])
        condition = vae.one_hot(data.test.labels[pair], config)
        mu, _ = posterior(model, test[pair], condition)
        classes = None if condition is None else path_between(condition[0], condition[1], STEPS)
        ways.append(decoded(model, path_between(mu[0], mu[1], STEPS), classes))
    return torch.cat(ways)


def sample(options: Options) -> Path:
    """Load a run, draw, write the picture and return where it is."""
    from common.drawing import plots

    folder = options.folder or newest_run(options.out, vae)
    model, config = vae.restore(folder)
    kind = "conditional " * config.conditional
    say("model", f"{kind}{config.architecture} VAE, {config.latent_size} latent units, from {folder}")
    generator = torch.Generator().manual_seed(options.seed)
    name, title = "sample", f"{options.count} drawings"
    if options.interpolate is not None:
        start, end = options.interpolate
        drawings = draw_on_the_way(model, config, folder, options.interpolate, options, generator)
        columns, name, title = STEPS, f"sample-{start}-to-{end}", f"from {start} to {end}"
    else:
        drawings = draw_from_prior(model, options, generator)
        columns = min(CLASSES if model.conditional else 8, options.count)
        if options.digit is not None:
            name, title = f"sample-{options.digit}", f"the digit {options.digit}"
    path = options.picture or folder / f"{name}.png"
    with explain_unwritable(path.parent), atomic_path(path) as temporary:
        plots.mosaic(tiles(drawings), columns=columns, title=title, size=0.6).savefig(temporary)
    say("saved", str(path))
    return path


def main(words: list[str] | None = None) -> None:
    """Read the command line."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        sample(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
