"""Give pictures of any size the style that a network of fast_style has learned, and save them as PNG files.

python -m ch06_cnn.stylise photograph.jpg
python -m ch06_cnn.stylise photograph.jpg other.png --size 1000 --out stylised/
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image
from torch import Tensor

from ch06_cnn.style import fast_style
from ch06_cnn.style.network import StyleNetwork, stylise
from ch06_cnn.style.pictures import LEAST, as_bytes, as_floats
from common.cli import one_line_errors, parse
from common.config import require
from common.data.images.picture import read_whole
from common.files import atomic_path
from common.progress import say
from common.run_folders.folder import newest_run

MOST = 8_000_000
"""Maximum number of pixels, which bounds the memory of the feature maps."""


@dataclass(frozen=True)
class Config:
    """Picture files, and the network that gives them its style."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Picture files."""
    size: int = 4_000
    """Longer side of the result in pixels; larger pictures are reduced, smaller ones keep their size."""
    out: Path = Path("stylised")
    """Folder in which NAME-stylised.png is written for each file."""
    folder: Path | None = None
    """Run folder of fast_style. Default: the newest finished run."""
    runs: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "give at least one picture file", "none")
        require(self.size >= LEAST, f"--size must be at least {LEAST}", self.size)
        names = [path.stem for path in self.files]
        twice = next((name for name in names if names.count(name) > 1), None)
        require(twice is None, "the files must have different names", twice)


def stylise_file(model: StyleNetwork, path: Path, size: int) -> Tensor:
    """Return a picture file in the style of the network, (3, H, W) uint8.

    Raises FileNotFoundError if the file does not exist, ValueError if it is not a picture, too large or too small.
    """
    pixels = read_whole(path, size)
    height, width = pixels.shape[1:]
    shape = f"{width:,} x {height:,}"
    require(min(height, width) >= LEAST, f"{path}: both sides must have at least {LEAST} pixels", shape)
    require(height * width <= MOST, f"{path}: at most {MOST:,} pixels, reduce it with --size", shape)
    return as_bytes(stylise(model, as_floats(pixels).unsqueeze(0))[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch06_cnn.stylise", description=(__doc__ or "").strip())
        model, trained = fast_style.restore(config.folder or newest_run(config.runs, fast_style))
        say("style", trained.style)
        for path in config.files:
            pixels = stylise_file(model, path, config.size)
            target = config.out / f"{path.stem}-stylised.png"
            with atomic_path(target) as temporary:
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(temporary, format="PNG")
            say("saved", f"{target}, {pixels.shape[2]} x {pixels.shape[1]} pixels")


if __name__ == "__main__":
    main()
