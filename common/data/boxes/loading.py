"""Load images with boxes by name: generated scenes, BCCD, or any folder in the layout of Pascal VOC.

BCCD (Blood Cell Count and Detection, github.com/Shenggan/BCCD_Dataset) has 364 photographs of blood smears, 640 × 480
pixels, with red blood cells (RBC), white blood cells (WBC) and platelets.
"""

from pathlib import Path
from typing import Literal

import torch

from common.data import published
from common.data.boxes import voc
from common.data.boxes.boxed import NO_BOX, BoxedImages, BoxSet
from common.data.scenes.loading import load_scene_set
from common.data.scenes.scene_set import Scenes
from common.data.source import DataUnavailable, data_dir, sha256_of

BoxSetName = Literal["scenes", "bccd", "voc"]


def load_boxes(
    name: BoxSetName, *, size: tuple[int, int], folder: Path | None = None, limit: int | None = None
) -> BoxSet:
    """Load a data set with images of (height, width), at most `limit` images for each split; scenes have 64 × 64.

    Raises DataUnavailable if BCCD is not in DATA_DIR; FileNotFoundError or ValueError, naming the file, if a part is
    missing or wrong.
    """
    if name == "scenes":
        scenes = load_scene_set(limit=limit)
        return BoxSet(scenes.card, scenes.class_names, *map(boxed, (scenes.train, scenes.valid, scenes.test)))
    if name == "bccd":
        folder = data_dir() / "BCCD"
        if not folder.is_dir():
            raise DataUnavailable(
                f"bccd is not in {folder}: copy Annotations, JPEGImages and ImageSets of "
                "github.com/Shenggan/BCCD_Dataset there, set DATA_DIR, or use --data scenes"
            )
    assert folder is not None
    return load_folder(folder, name, size=size, limit=limit)


def boxed(scenes: Scenes) -> BoxedImages:
    """Keep the images and boxes of scenes; no box is difficult."""
    return BoxedImages(scenes.pixels, scenes.boxes, scenes.labels, torch.zeros_like(scenes.labels, dtype=torch.bool))


def load_folder(folder: Path, name: str, *, size: tuple[int, int], limit: int | None = None) -> BoxSet:
    """Load a folder in the layout of Pascal VOC; see `voc.py`."""
    names = {split: every[:limit] for split, every in voc.read_splits(folder).items()}
    annotations = {
        split: [voc.read_annotation(folder / "Annotations" / f"{each}.xml") for each in every]
        for split, every in names.items()
    }
    classes = voc.class_names(annotations["train"])
    train, valid, test = (voc.load_split(annotations[split], classes, *size) for split in voc.SPLITS)
    sha256 = sha256_of(*(t for split in (train, valid, test) for t in (split.pixels, split.boxes, split.labels)))
    count = sum(int((split.labels != NO_BOX).sum()) for split in (train, valid, test))
    empty = sum(each.without_area for every in annotations.values() for each in every)
    description = (
        f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test images of {size[1]} × {size[0]}, "
        f"{count:,} boxes of {len(classes)} classes, from {folder}"
    ) + (f"; left out: {empty} boxes without area" if empty else "")
    title = name if name == "bccd" else published.own_name(folder.resolve().name)
    counts = {f"{split} images": len(names[split]) for split in voc.SPLITS} | {"boxes": count}
    return BoxSet(published.card(title, sha256, description, counts), classes, train, valid, test)
