"""Membranes of nerve cells: 30 slices of an electron microscope, 512 × 512 pixels (Arganda-Carreras et al. 2015).

    DATA_DIR/membranes/images/NAME.png
    DATA_DIR/membranes/labels/NAME.png      membranes are black, the inside of cells is white

The slices are the training set of the ISBI challenge of 2012. They are consecutive sections of one piece of tissue, so
adjacent slices are similar. A fold is a block of consecutive slices: then only its first and its last one have a
neighbour in the training set. A random choice of slices would place a neighbour of nearly every test slice there.

Dimensions: N slices, H, W height and width.
"""

from pathlib import Path

import torch

from common.data.masks.masked import MaskedImages, Pair, check_pairs, read_pair
from common.data.source import DataUnavailable, data_dir

NAMES = ("cell", "membrane")
MIDDLE = 128
"""Grey level of a label from which a pixel is the inside of a cell."""


def load_slices() -> MaskedImages:
    """Load all slices in their order.

    Raises DataUnavailable if they are not in DATA_DIR; FileNotFoundError or ValueError, naming the file, if a part is
    missing or wrong.
    """
    folder = data_dir() / "membranes"
    if not (folder / "images").is_dir() or not (folder / "labels").is_dir():
        raise DataUnavailable(
            f"membranes are not in {folder}: copy the slices of the ISBI challenge of 2012 to images/ and their masks "
            "to labels/ there as PNG files of the same names, set DATA_DIR, or use --data scenes"
        )
    paths = sorted((folder / "images").glob("*.png"), key=slice_number)
    if not paths:
        raise FileNotFoundError(f"{folder / 'images'} has no PNG files")
    pairs = [Pair(path, folder / "labels" / path.name) for path in paths]
    sizes = check_pairs(pairs, None)
    for pair, size in zip(pairs, sizes, strict=True):
        if size != sizes[0]:
            first = f"{sizes[0][0]} × {sizes[0][1]}"
            raise ValueError(f"{pair.image} has {size[0]} × {size[1]} pixels, but the first slice has {first}")
    width, height = sizes[0]
    read = [read_pair(pair, (height, width)) for pair in pairs]
    labels = torch.stack([label for _, label in read])
    return MaskedImages(torch.stack([pixels for pixels, _ in read]), (labels < MIDDLE).to(torch.uint8))


def slice_number(path: Path) -> tuple[int, str]:
    """Return the sort key of a slice: 9.png before 10.png."""
    digits = "".join(character for character in path.stem if character.isdigit())
    return int(digits or 0), path.stem


def divide(slices: MaskedImages, fold: int, folds: int) -> tuple[MaskedImages, MaskedImages]:
    """Return the training and the test slices of fold 1 ... `folds`: blocks of consecutive slices.

    Raises ValueError if there are fewer slices than folds.
    """
    if len(slices) < folds:
        raise ValueError(f"--folds must be at most the number of slices, {len(slices)}, got {folds}")
    ends = [number * len(slices) // folds for number in range(folds + 1)]
    test = torch.zeros(len(slices), dtype=torch.bool)
    test[ends[fold - 1] : ends[fold]] = True
    return slices[~test], slices[test]
