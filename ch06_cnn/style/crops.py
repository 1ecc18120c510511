"""Training images of the feed-forward network: random crops of photographs, or CIFAR-10, or the generated shapes.

Dimensions: N images, S side length of a crop, H, W height and width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from ch06_cnn.style import pictures
from common.config import require
from common.data import published
from common.data.images.loading import load_images
from common.data.images.picture import SUFFIXES, is_picture, read_whole
from common.data.source import DataCard, sha256_of

NAMED = ("photographs", "cifar-10", "shapes")

CropData = Annotated[
    Literal["photographs", "cifar-10", "shapes"] | str, tyro.conf.arg(metavar="{photographs,cifar-10,shapes}|FOLDER")
]
"""Type of --data: photographs that packages ship, a named set of small images, or a folder of pictures."""

LONGEST = 640
"""Longer side to which photographs are reduced before crops are taken."""
HELD_OUT = 4
"""The right quarter of each photograph is for validation."""


def load_crops(data: str, size: int, counts: tuple[int, int], seed: int) -> tuple[Tensor, Tensor, DataCard]:
    """Return training images (N, 3, S, S) uint8, validation images, and the description of their source.

    `counts` are the numbers of training and validation images. Raises ValueError if the folder has no suitable
    picture, DataUnavailable if CIFAR-10 is not on disk and cannot be downloaded.
    """
    generator = torch.Generator().manual_seed(seed)
    if data == "cifar-10" or data == "shapes":
        images = load_images(data)
        train, valid = images.train.pixels[: counts[0]], images.valid.pixels[: counts[1]]
        return resize(train, size), resize(valid, size), images.card
    photographs, card = load_photographs(data, size)
    edges = [photograph.shape[2] - photograph.shape[2] // HELD_OUT for photograph in photographs]
    train = [photograph[:, :, :edge] for photograph, edge in zip(photographs, edges, strict=True)]
    valid = [photograph[:, :, edge:] for photograph, edge in zip(photographs, edges, strict=True)]
    return draw(train, counts[0], size, generator), draw(valid, counts[1], size, generator), card


def load_photographs(data: str, size: int) -> tuple[list[Tensor], DataCard]:
    """Return the photographs (3, H, W) that packages ship, or the pictures of a folder and its subfolders."""
    if data == "photographs":
        found = {}
        for name in pictures.PHOTOGRAPHS:
            try:
                found[name] = read_whole(pictures.find(name), LONGEST)
            except FileNotFoundError:
                continue  # scikit-image is optional
        card = DataCard(data, True, sha256_of(*found.values()), f"crops of {', '.join(found)}")
        return list(found.values()), card
    folder = Path(data)
    if not folder.is_dir():
        reason = "is a file" if folder.exists() else "is neither a data set nor a folder"
        raise ValueError(f"--data {data} {reason}: choose from {', '.join(NAMED)}, or a folder of pictures")
    paths = sorted(filter(is_picture, folder.rglob("*")))
    require(len(paths) > 0, f"{folder} needs pictures ({' '.join(SUFFIXES)})", "none")
    large = [photograph for path in paths if min((photograph := read_whole(path, LONGEST)).shape[1:]) >= size]
    require(len(large) > 0, f"{folder} needs a picture of at least {size} x {size} pixels", "only smaller ones")
    name = published.own_name(folder.resolve().name)
    return large, DataCard(name, False, sha256_of(*large), f"crops of {len(large):,} pictures from {folder}")


def draw(photographs: Sequence[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw (count, 3, S, S) uint8 crops at random places, half of them mirrored.

    The side of a crop is drawn between S and twice S, or what fits in the photograph; it is then reduced to S.
    """
    crops = []
    for _ in range(count):
        photograph = photographs[int(torch.randint(len(photographs), (), generator=generator))]
        height, width = photograph.shape[1:]
        limit = min(height, width)
        side = int(torch.randint(min(size, limit), min(2 * size, limit) + 1, (), generator=generator))
        top = int(torch.randint(height - side + 1, (), generator=generator))
        left = int(torch.randint(width - side + 1, (), generator=generator))
        crop = resize(photograph[None, :, top : top + side, left : left + side], size)
        crops.append(crop.flip(3) if torch.rand((), generator=generator) < 0.5 else crop)
    return torch.cat(crops)


def resize(images: Tensor, size: int) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, S, S) uint8, enlarged or reduced by bicubic interpolation"""
    pixels = F.interpolate(images.float(), size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    return pixels.round().clamp(0, 255).to(torch.uint8)
