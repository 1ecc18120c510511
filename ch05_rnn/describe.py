"""Describe an image or a generated scene with a trained captioner.

python -m ch05_rnn.describe --scene 7
python -m ch05_rnn.describe --scene 7 --beam 5 --draw attention.png
python -m ch05_rnn.describe --image photograph.jpg
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ch05_rnn.captions import captioning
from ch05_rnn.captions.evaluation import caption
from ch05_rnn.captions.visualise import draw_attention
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.captions.captioned import read_image
from common.data.captions.grammar import Kind, is_true
from common.data.captions.loading import draw_split
from common.data.captions.scenes import split_combinations
from common.files import atomic_path
from common.progress import say
from common.run_folders.folder import newest_run


@dataclass(frozen=True)
class Config:
    """An image, and the model that describes it."""

    image: Path | None = None
    """Image file; its central square is resized to the size of the training images."""
    scene: int | None = None
    """Random seed of a generated scene, with combinations of colour and shape that do not occur in training."""
    beam: int = 1
    """Beam width; 1 decodes greedily."""
    max_length: int = 40
    """Maximum length of the caption, in words."""
    draw: Path | None = None
    """File for a picture of the attention at each word of the greedy caption, as in attention.png."""
    folder: Path | None = None
    """Run folder of captioning. Default: the newest finished run."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require_positive(self, "beam", "max_length")
        given = [name for name in ("image", "scene") if getattr(self, name) is not None]
        require(len(given) == 1, "give --image FILE or --scene SEED", " and ".join(given) or "neither")
        require(self.scene is None or self.scene >= 0, "--scene must be a seed of at least 0", self.scene)


def describe(config: Config) -> list[tuple[str, str]]:
    """Return labelled lines: the caption; for a scene also its objects, and whether the caption is true."""
    model, vocabulary, trained = captioning.restore(config.folder or newest_run(config.out, captioning))
    scene = None
    if config.image is not None:
        pixels = read_image(config.image, trained.image_size).unsqueeze(0)
    else:
        assert config.scene is not None
        drawn = draw_split(split_combinations()[2], 1, config.scene, size=trained.image_size)
        pixels, (scene,) = drawn.pixels, drawn.scenes
    (text,) = caption(model, vocabulary, pixels, width=config.beam, max_length=config.max_length)
    if config.draw is not None:
        require(model.attention is not None, "--draw needs a model with attention", "one without")
        figure = draw_attention(model, vocabulary, pixels, config.max_length)
        from common.drawing import plots

        with atomic_path(config.draw) as temporary:
            plots.save(figure, temporary)
        say("saved", str(config.draw))
    rows = [("caption", text)]
    if scene is not None:
        objects = " and ".join(f"{Kind.of(each)} at ({each.x:.0f}, {each.y:.0f})" for each in scene)
        rows += [("scene", objects), ("true", "yes" if is_true(text, scene) else "no")]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.describe", description=(__doc__ or "").strip())
        for label, text in describe(config):
            say(label, text)


if __name__ == "__main__":
    main()
