"""Figures of both programs: labelled images, errors, generated images, analogies, and curves.

Dimensions: N images, P pixels (784), K classes (10).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch08_vae.few_labels.labelled import FewLabels
from ch08_vae.preprocessing import CLASSES
from common.data.images.image_set import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ERRORS = 40
"""Maximum number of errors in the figure."""

MOST_LABELLED = 20
"""Maximum number of labelled images per class in the figure."""


def draw_labelled(few: FewLabels, names: Sequence[str]) -> "Figure":
    """Draw the labelled images, one class per row; a class with fewer images than others has an empty tile."""
    from common.drawing import plots

    labelled = few.labelled
    columns = min(MOST_LABELLED, int(labelled.labels.bincount(minlength=CLASSES).max()))
    tiles = torch.ones(CLASSES, columns, 1, 28, 28)
    for label in range(CLASSES):
        images = labelled.pixels[labelled.labels == label][:columns].cpu().float().div(255)
        tiles[label, : len(images)] = images
    return plots.mosaic(tiles.flatten(0, 1), columns=columns, row_names=list(names), title="labelled images")


def draw_errors(test: Split, predicted: Tensor, names: Sequence[str]) -> "Figure | None":
    """Draw the first errors with true and predicted class; None if there is no error."""
    from common.drawing import plots

    wrong = (predicted != test.labels).nonzero().flatten()[:MOST_ERRORS]
    if len(wrong) == 0:
        return None
    pairs = zip(test.labels[wrong].tolist(), predicted[wrong].tolist(), strict=True)
    titles = [f"{names[true]} as {names[found]}" for true, found in pairs]
    return plots.image_grid(test.pixels[wrong], columns=10, titles=titles)


def draw_generated(images: Tensor) -> "Figure":
    """Draw (N, P) generated images in [0, 1] in rows of ten."""
    from common.drawing import plots

    return plots.mosaic(images.cpu().view(-1, 1, 28, 28), columns=10, title="generated images")


def draw_analogies(images: Tensor, decoded: Tensor, names: Sequence[str]) -> "Figure":
    """Draw (N, P) images, one per row, and right of each the (N, K, P) images of its style in every class."""
    from common.drawing import plots

    tiles = torch.cat([images.unsqueeze(1), decoded], dim=1).cpu().view(-1, 1, 28, 28)
    return plots.mosaic(tiles, columns=1 + CLASSES, column_names=["style", *names], title="one style per row")
