"""Detect objects in image files with a trained detector: print classes, scores and boxes, and draw them.

python -m ch06_cnn.detect photograph.jpg
python -m ch06_cnn.detect photograph.jpg other.png --threshold 0.3 --out detected/
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from ch06_cnn.detection import detection
from ch06_cnn.detection.evaluation import SHOWN, detect
from ch06_cnn.detection.network import Detector
from common.cli import one_line_errors, parse
from common.config import require
from common.data.boxes.boxed import open_image, to_tensor
from common.files import atomic_path
from common.progress import say
from common.run_folders.folder import newest_run


@dataclass(frozen=True)
class Config:
    """Image files, and the model that finds objects in them."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""
    threshold: float = SHOWN
    """Minimum score of a detection."""
    out: Path = Path("detected")
    """Folder in which NAME-detected.png is written for each file."""
    folder: Path | None = None
    """Run folder of detection. Default: the newest finished run."""
    runs: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "give at least one image file", "none")
        require(0 < self.threshold < 1, "--threshold must be between 0 and 1", self.threshold)
        names = [path.stem for path in self.files]
        twice = next((name for name in names if names.count(name) > 1), None)
        require(twice is None, "the files must have different names", twice)


@dataclass(frozen=True)
class Found:
    """A detected object."""

    name: str
    score: float
    box: tuple[float, float, float, float]
    """Left, top, right and bottom edge in pixels of the file."""


def find(
    model: Detector, names: Sequence[str], size: tuple[int, int], path: Path, threshold: float
) -> tuple[Tensor, list[Found]]:
    """Return an image file as (3, H, W) uint8, and the objects detected in it, by falling score.

    Raises FileNotFoundError if the file does not exist, ValueError if it is not an image.
    """
    image = open_image(path, upright=True)
    found = detect(model, to_tensor(image, *size).unsqueeze(0))
    across, down = image.width / size[1], image.height / size[0]
    boxes = found.boxes[0] * torch.tensor([across, down, across, down])
    places = (found.scores[0] >= threshold).nonzero().squeeze(1).tolist()
    labels, scores = found.labels[0].tolist(), found.scores[0].tolist()
    objects = []
    for place in places:
        left, top, right, bottom = boxes[place].tolist()
        objects.append(Found(names[int(labels[place])], scores[place], (left, top, right, bottom)))
    return to_tensor(image, image.height, image.width), objects


def draw(pixels: Tensor, objects: Sequence[Found], names: Sequence[str], path: Path) -> None:
    """Draw detected objects on an image and save it as a PNG."""
    from ch06_cnn.detection.visualise import COLOURS, Drawn, draw_boxes
    from common.drawing import plots

    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    boxes = [Drawn(each.box, colours[each.name], f"{each.name} {each.score:.2f}") for each in objects]
    figure = draw_boxes([pixels], [boxes], columns=1, size=8)
    with atomic_path(path) as temporary:
        plots.save(figure, temporary)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch06_cnn.detect", description=(__doc__ or "").strip())
        model, names, trained = detection.restore(config.folder or newest_run(config.runs, detection))
        for path in config.files:
            pixels, objects = find(model, names, trained.input_size, path, config.threshold)
            target = config.out / f"{path.stem}-detected.png"
            draw(pixels, objects, names, target)
            counts = {name: sum(each.name == name for each in objects) for name in names}
            shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no objects"
            say("image", f"{path}: {shown}")
            for each in objects:
                left, top, right, bottom = (round(edge) for edge in each.box)
                say("", f"{each.name} {each.score:.2f}  ({left}, {top}) to ({right}, {bottom})")
            say("saved", str(target))


if __name__ == "__main__":
    main()
