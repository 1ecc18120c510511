"""Load images with masks by name: generated scenes or cells, membranes, or any folder in the layout of Pascal VOC."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.data import published
from common.data.masks import membranes, voc
from common.data.masks.cells import draw_cells
from common.data.masks.masked import MaskedImages, MaskSet
from common.data.scenes.loading import load_scene_set
from common.data.scenes.scene_set import Scenes
from common.data.source import DataCard, data_dir, sha256_of

MaskSetName = Literal["scenes", "cells", "membranes", "voc"]


def load_masks(
    name: MaskSetName,
    *,
    size: tuple[int, int],
    folder: Path | None = None,
    fold: int = 1,
    folds: int = 5,
    limit: int | None = None,
) -> MaskSet:
    """Load a data set, at most `limit` images for each split.

    `size` is the (height, width) of the images of a folder; scenes have 64 × 64 pixels, membranes 512 × 512. `fold` of
    `folds` are the test slices of cells and membranes. Raises DataUnavailable if the membranes are not in DATA_DIR;
    FileNotFoundError or ValueError, naming the file, if a part is missing or wrong.
    """
    if name == "scenes":
        scenes = load_scene_set(limit=limit)
        names = ("background", *scenes.class_names)
        return MaskSet(scenes.card, names, *map(masked, (scenes.train, scenes.valid, scenes.test)))
    if name == "cells" or name == "membranes":
        return divide(load_slices(name), fold, folds, limit)
    assert folder is not None
    names, splits = voc.load_folder(folder, size, limit)
    sha256 = sha256_of(*(t for split in splits.values() for t in (split.pixels, split.masks)))
    counts = ", ".join(f"{len(splits[split]):,} {title}" for split, title in (("train", "train"), ("val", "valid")))
    description = (
        f"{counts}, {len(splits['test']):,} test images of {size[1]} × {size[0]}, {len(names)} classes, from {folder}"
    )
    card = published.card(published.own_name(folder.resolve().name), sha256, description, {})
    return MaskSet(card, names, *(splits[split] for split in voc.SPLITS))


@dataclass(frozen=True)
class Slices:
    """Consecutive slices, not yet divided into training and test set."""

    images: MaskedImages
    card: DataCard


def load_slices(name: Literal["cells", "membranes"]) -> Slices:
    """Draw the cells, or load the membranes."""
    images = draw_cells() if name == "cells" else membranes.load_slices()
    sha256, (count, height, width) = sha256_of(images.pixels, images.masks), images.masks.shape
    if name == "cells":
        return Slices(images, DataCard(name, True, sha256, f"{count} slices of {width} × {height}, drawn here"))
    description = f"{count} slices of {width} × {height}, from {data_dir() / name}"
    return Slices(images, published.card(name, sha256, description, {"slices": count}))


def divide(slices: Slices, fold: int, folds: int, limit: int | None = None) -> MaskSet:
    """Take fold 1 ... `folds` of the slices as test set, at most `limit` slices for each split; without validation set.

    Raises ValueError if there are fewer slices than folds.
    """
    train, test = (part[:limit] for part in membranes.divide(slices.images, fold, folds))
    where = f"fold {fold} of {folds}: {len(train)} train, {len(test)} test of {slices.card.description}"
    return MaskSet(replace(slices.card, description=where), membranes.NAMES, train, slices.images[:0], test)


def masked(scenes: Scenes) -> MaskedImages:
    """Keep the images and the class masks of scenes."""
    return MaskedImages(scenes.pixels, scenes.class_masks)
