"""Generate digits with a trained VAE or diffusion model.

    python -m ch08_vae.sample --count 16
    python -m ch08_vae.sample --digit 7                               # a given class, with a conditional model
    python -m ch08_vae.sample --interpolate 3 8                       # interpolate between test images of two classes
    python -m ch08_vae.sample --digit 7 --guidance 2 --steps 20       # a diffusion model

The image is written to the folder of the run, or to --picture.

Dimensions: P pixels (784), C channels, H height, W width, Z latent units, K classes (10).
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ch08_vae.autoencoding import vae
from ch08_vae.autoencoding.networks import VAE
from ch08_vae.autoencoding.pictures import classes_in_turn, path_between, tiles
from ch08_vae.diffusion import diffusion
from ch08_vae.diffusion.sampling import generate
from ch08_vae.evaluation.likelihood import decoded, posterior
from ch08_vae.preprocessing import CLASSES, fixed
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.images.loading import load_images
from common.data.source import option_of
from common.files import atomic_path, explain_unwritable, read_json
from common.progress import say
from common.run_folders.folder import newest_run
from common.run_folders.loading import program_of

COMMAND = "python -m ch08_vae.sample"

STEPS = 12
"""Number of images per interpolation, including both ends."""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    count: int = 16
    """Number of samples; with --interpolate, number of interpolations between different test images."""
    digit: int | None = None
    """Class to generate; requires a conditional model."""
    interpolate: tuple[int, int] | None = None
    """Two classes: interpolate from test images of the first to test images of the second."""
    seed: int = 0
    """Random seed."""
    picture: Path | None = None
    """Image file to write, such as samples.png. Default: sample*.png in the folder of the run."""
    guidance: float | None = None
    """Guidance scale of a diffusion model, 0 or more. Default: that of its run."""
    steps: int | None = None
    """Number of DDIM steps of a diffusion model. Default: that of its run."""
    eta: float | None = None
    """Noise that each DDIM step of a diffusion model adds, 0 to 1. Default: that of its run."""
    folder: Path | None = None
    """Run folder of the vae or the diffusion program. Default: the newest finished run; with --guidance, --steps or
    --eta that of a diffusion model, with --interpolate that of a VAE."""
    out: Path = Path("runs")
    """Folder with the runs."""

    def __post_init__(self) -> None:
        require_positive(self, "count", "steps")
        named = [*(self.interpolate or ()), *([] if self.digit is None else [self.digit])]
        for digit in named:
            require(0 <= digit < CLASSES, f"--digit and --interpolate take classes from 0 to {CLASSES - 1}", digit)
        rule = "--picture must be a file name with an extension, such as samples.png"
        require(self.picture is None or self.picture.suffix != "", rule, self.picture)
        require(
            self.digit is None or self.interpolate is None, "--digit and --interpolate cannot be used together", "both"
        )
        rule = "--interpolate needs a VAE, --guidance, --steps and --eta a diffusion model"
        require(self.interpolate is None or not self.denoising, rule, "both")

    @property
    def denoising(self) -> dict[str, float]:
        """Settings of a diffusion model that were given, named as in its Config."""
        given = {"guidance": self.guidance, "sampling_steps": self.steps, "eta": self.eta}
        return {name: value for name, value in given.items() if value is not None}


def sample_prior(model: VAE, options: Options, generator: torch.Generator) -> Tensor:
    """Return (N, P) decoded samples of the prior; a conditional model generates the given class, or all in turn.

    Raises ValueError if a digit is given and the model is not conditional.
    """
    if options.digit is not None and not model.conditional:
        raise ValueError(
            "--digit needs a conditional model: train one with python -m ch08_vae.train vae --conditional, "
            "or name the folder of such a run with --folder"
        )
    z = torch.randn(options.count, model.latent_size, generator=generator)
    condition = classes_in_turn(-(-options.count // CLASSES), model)
    if condition is not None:
        condition = condition[: options.count]
        if options.digit is not None:
            condition = F.one_hot(torch.full((options.count,), options.digit), CLASSES).float()
    return decoded(model, z, condition)


def interpolate(
    model: VAE, config: vae.Config, folder: Path, ends: tuple[int, int], options: Options, generator: torch.Generator
) -> Tensor:
    """Return (N * STEPS, P) decoded linear interpolations between the codes of test images of two classes.

    Raises ValueError if the data set differs from that of the run, or lacks a class.
    """
    card = read_json(folder / "config.json")["data"]
    data = load_images(option_of(card))
    if data.card.sha256 != card["sha256"]:
        raise ValueError(f"{folder} was trained on a different version of {card['name']}: train again")
    chosen = []
    for digit in ends:
        images = (data.test.labels == digit).nonzero().flatten()
        require(len(images) > 0, f"--interpolate needs test images of class {digit}", "none")
        chosen.append(images[torch.randperm(len(images), generator=generator)[: options.count]])
    test, rows = fixed(data.test.pixels, config.binarisation), []
    for start, end in zip(*chosen, strict=False):  # as many as the class with fewer images has
        pair = torch.stack([start, end])
        condition = vae.one_hot(data.test.labels[pair], config)
        mu, _ = posterior(model, test[pair], condition)
        classes = None if condition is None else path_between(condition[0], condition[1], STEPS)
        rows.append(decoded(model, path_between(mu[0], mu[1], STEPS), classes))
    return torch.cat(rows)


def sample_vae(folder: Path, options: Options, generator: torch.Generator) -> tuple[Tensor, int]:
    """Return samples or interpolations of a VAE as (N, 1, 28, 28) images, and the number of columns to draw them in."""
    if options.denoising:
        raise ValueError(f"--guidance, --steps and --eta need a run of the diffusion program: {folder} has a VAE")
    model, config = vae.restore(folder)
    kind = "conditional " * config.conditional
    say("model", f"{kind}{config.architecture} VAE, {config.latent_size} latent units, from {folder}")
    if options.interpolate is not None:
        return tiles(interpolate(model, config, folder, options.interpolate, options, generator)), STEPS
    return tiles(sample_prior(model, options, generator)), CLASSES if model.conditional else 8


def sample_diffusion(folder: Path, options: Options, generator: torch.Generator) -> tuple[Tensor, int]:
    """Return samples of a diffusion model as (N, C, H, W) images, and the number of columns to draw them in.

    Raises ValueError if the model has no classes but a digit or guidance is given, or has fewer steps than given.
    """
    if options.interpolate is not None:
        raise ValueError(f"--interpolate needs a run of the vae program: {folder} has a diffusion model")
    model, schedule, config = diffusion.restore(folder)
    conditional = config.condition == "class"
    if options.digit is not None and not conditional:
        raise ValueError(
            "--digit needs a conditional model: train one with python -m ch08_vae.train diffusion, "
            "or name the folder of such a run with --folder"
        )
    limit = f"--steps must be at most {config.timesteps:,}, the steps of the noising process of {folder}"
    require((options.steps or 1) <= config.timesteps, limit, options.steps)
    if options.steps is not None or options.eta is not None:
        config = replace(config, sampler="ddim")
    config = replace(config, **options.denoising)  # checks the rest
    sampler = config.settings
    steps = f"{sampler.steps} DDIM steps" if sampler.method == "ddim" else f"{config.timesteps:,} ancestral steps"
    say("model", f"diffusion model, {steps}, guidance {sampler.guidance:g}, eta {sampler.eta:g}, from {folder}")
    classes = diffusion.classes_in_turn(options.count, config)
    if options.digit is not None:
        classes = torch.full_like(classes, options.digit)
    shape = diffusion.image_shape(config)
    images = generate(model, schedule, shape, classes, sampler, no_class=CLASSES, generator=generator)
    return images, CLASSES if conditional else 8


def sample(options: Options) -> Path:
    """Load a run, generate samples, write them as an image and return its path."""
    from common.drawing import plots

    programs = (diffusion,) if options.denoising else (vae,) if options.interpolate else (vae, diffusion)
    folder = options.folder or newest_run(options.out, *programs)
    generator = torch.Generator().manual_seed(options.seed)
    make = sample_diffusion if program_of(folder) is diffusion else sample_vae
    images, columns = make(folder, options, generator)
    name, title = "sample", f"{options.count} samples"
    if options.interpolate is not None:
        start, end = options.interpolate
        name, title = f"sample-{start}-to-{end}", f"interpolation from {start} to {end}"
    else:
        columns = min(columns, options.count)
        if options.digit is not None:
            name, title = f"sample-{options.digit}", f"samples of class {options.digit}"
    path = options.picture or folder / f"{name}.png"
    if images.shape[1] == 1:
        figure = plots.mosaic(images, columns=columns, title=title, size=0.6)
    else:
        figure = plots.image_grid(images, columns=columns, size=0.6)
    with explain_unwritable(path.parent), atomic_path(path) as temporary:
        plots.save(figure, temporary)
    say("saved", str(path))
    return path


def main(words: list[str] | None = None) -> None:
    """Parse the command line and generate the samples."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        sample(parse(Options, arguments, prog=COMMAND, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
