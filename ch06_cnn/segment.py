"""Segment image files with a trained network: print the share of each class, and draw the mask on the image.

python -m ch06_cnn.segment photograph.jpg
python -m ch06_cnn.segment slice.png other.png --out segmented/

For each file, two files are written: NAME-segmented.png shows the image and the mask on it, and NAME-mask.png is the
mask as a palette image whose values are the classes, in the format of Pascal VOC.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from ch06_cnn.segmentation import segmentation
from ch06_cnn.segmentation.evaluation import segment
from common.cli import one_line_errors, parse
from common.config import require
from common.data.boxes.boxed import open_image, to_tensor
from common.files import atomic_path
from common.progress import say
from common.run_folders.folder import newest_run

MOST_PIXELS = 4_000_000
"""Maximum number of pixels of an image that is not resized; the network's maps need some hundred bytes per pixel."""


@dataclass(frozen=True)
class Config:
    """Image files, and the network that segments them."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""
    out: Path = Path("segmented")
    """Folder in which NAME-segmented.png and NAME-mask.png are written for each file."""
    folder: Path | None = None
    """Run folder of segmentation. Default: the newest finished run."""
    runs: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "give at least one image file", "none")
        names = [path.stem for path in self.files]
        twice = next((name for name in names if names.count(name) > 1), None)
        require(twice is None, "the files must have different names", twice)


def find_mask(model: nn.Module, trained: segmentation.Config, path: Path) -> tuple[Tensor, Tensor]:
    """Return an image file as (3, H, W) uint8, and the (H, W) uint8 class of each pixel.

    A network that was trained on resized images gets the resized image, and its mask is enlarged to the nearest pixel.
    The others get the image in its own size, extended to multiples of the network's stride. Raises FileNotFoundError if
    the file does not exist, ValueError if it is not an image or too large.
    """
    image = open_image(path, upright=True)
    pixels = to_tensor(image, image.height, image.width)
    if trained.data == "voc":
        mask = segment(model, to_tensor(image, *trained.input_size).unsqueeze(0))
        enlarged = F.interpolate(mask.unsqueeze(1).float(), (image.height, image.width), mode="nearest-exact")
        return pixels, enlarged[0, 0].to(torch.uint8)
    size = f"{image.width:,} × {image.height:,} pixels"
    require(image.width * image.height <= MOST_PIXELS, f"{path} must have at most {MOST_PIXELS:,} pixels", size)
    down, right = (-side % trained.stride for side in (image.height, image.width))
    extended = F.pad(pixels.unsqueeze(0).float(), (0, right, 0, down), mode="replicate")
    return pixels, segment(model, extended)[0, : image.height, : image.width]


def save_mask(mask: Tensor, classes: int, path: Path) -> None:
    """Save an (H, W) mask as a palette image with the colours of Pascal VOC."""
    from PIL import Image

    from ch06_cnn.segmentation.visualise import palette

    image = Image.fromarray(mask.numpy(), mode="P")
    image.putpalette(palette(classes).flatten().tolist())
    with atomic_path(path) as temporary:
        image.save(temporary, format="png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch06_cnn.segment", description=(__doc__ or "").strip())
        model, names, trained = segmentation.restore(config.folder or newest_run(config.runs, segmentation))
        for path in config.files:
            pixels, mask = find_mask(model, trained, path)
            from ch06_cnn.segmentation.visualise import draw_overlay

            drawn, raw = (config.out / f"{path.stem}-{kind}.png" for kind in ("segmented", "mask"))
            with atomic_path(drawn) as temporary:
                draw_overlay(pixels, mask, names).savefig(temporary, format="png")
            save_mask(mask, len(names), raw)
            shares = mask.flatten().long().bincount(minlength=len(names)) / mask.numel()
            present = [f"{name} {share:.1%}" for name, share in zip(names, shares.tolist(), strict=True) if share]
            say("image", f"{path}: {', '.join(present)}")
            say("saved", f"{drawn} {raw}")


if __name__ == "__main__":
    main()
