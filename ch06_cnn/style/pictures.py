"""Content and style pictures: those of scikit-learn and scikit-image, generated styles, or any picture file.

Paintings are not shipped. The two generated styles have the property that matters: a texture with few colours.

Dimensions: H, W height and width, S side length of a generated picture.
"""

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common.config import require
from common.data.images.picture import read_whole

LEAST = 32
"""Minimum height and width of a picture, in pixels: below this, the coarsest feature maps have hardly any positions."""

PHOTOGRAPHS = {
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
}
"""Photographs by name: package and file. scikit-learn is a dependency, scikit-image is not."""

GENERATED = ("mosaic", "strokes")
"""Names of generated style pictures."""

PIP_NAMES = {"sklearn": "scikit-learn", "skimage": "scikit-image"}


def read(name: str, size: int) -> Tensor:
    """Read a picture by name or path as (3, H, W) uint8; its longer side has at most `size` pixels.

    Raises FileNotFoundError if there is no such picture or its package is not installed, ValueError if it cannot be
    read, is larger than the limit, or is smaller than LEAST.
    """
    if name in GENERATED:
        return draw(name, size)
    pixels = read_whole(find(name), size)
    height, width = pixels.shape[1:]
    rule = f"{name} with --size {size}: both sides must have at least {LEAST} pixels"
    require(min(height, width) >= LEAST, rule, f"{width} x {height}")
    return pixels


def find(name: str) -> Path:
    """Return the file of a photograph that a package ships, or the named file."""
    if name not in PHOTOGRAPHS:
        if not Path(name).is_file():
            known = ", ".join([*PHOTOGRAPHS, *GENERATED])
            raise FileNotFoundError(f"{name} does not exist: give a picture file, or one of {known}")
        return Path(name)
    package, file = PHOTOGRAPHS[name]
    found = find_spec(package)  # this does not import it
    path = Path(found.submodule_search_locations[0]) / file if found and found.submodule_search_locations else None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"{name} is a picture of {PIP_NAMES[package]}: pip install {PIP_NAMES[package]}")
    return path


def as_floats(pixels: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 -> floats in [0, 1]"""
    return pixels.float() / 255


def as_bytes(images: Tensor) -> Tensor:
    """(..., 3, H, W) floats -> uint8 on the CPU; values outside [0, 1] are clipped"""
    return images.detach().float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8)


def draw(name: str, size: int) -> Tensor:
    """Draw a style picture as (3, S, S) uint8, the same on every machine."""
    generator = np.random.default_rng(7)
    return mosaic(size, generator) if name == "mosaic" else strokes(size, generator)


def mosaic(size: int, generator: np.random.Generator) -> Tensor:
    """Draw coloured tiles with dark joints: the cells that are nearest to random points.

    A pixel is in a joint if its distances to the nearest and to the second nearest point differ by little.
    """
    edge = 14 * size / 256  # mean distance of neighbouring points, in pixels
    count = round(size / edge)
    rows, columns = np.meshgrid(np.arange(-1, count + 1), np.arange(-1, count + 1), indexing="ij")
    jitter = generator.uniform(0.15, 0.85, (2, *rows.shape))
    points = np.stack([(rows + jitter[0]).ravel(), (columns + jitter[1]).ravel()], axis=1) * edge
    palette = np.array([(22, 56, 120), (38, 120, 168), (240, 236, 218), (233, 170, 48), (196, 58, 42), (24, 96, 84)])
    waves = np.sin(points[:, 0] / size * 9 + 2 * np.sin(points[:, 1] / size * 7)) + generator.normal(
        0, 0.45, len(points)
    )
    ranks = waves.argsort().argsort() * len(palette) // len(points)
    colours = palette[ranks] + generator.normal(0, 12, (len(points), 3))
    grid = torch.arange(size, dtype=torch.float64) + 0.5
    places = torch.cartesian_prod(grid, grid)
    nearest = torch.cdist(places, torch.from_numpy(points)).topk(2, largest=False)
    gap = (nearest.values[:, 1] - nearest.values[:, 0]) / edge
    tile = (gap / 0.16 - 0.5).clamp(0, 1).unsqueeze(1)  # 0 in a joint
    shade = (1.08 - 0.16 * (1 - gap).clamp(0, 1)).unsqueeze(1)
    pixels = tile * shade * torch.from_numpy(colours)[nearest.indices[:, 0]] + (1 - tile) * 30
    return pixels.clamp(0, 255).round().to(torch.uint8).view(size, size, 3).permute(2, 0, 1).contiguous()


def strokes(size: int, generator: np.random.Generator) -> Tensor:
    """Draw short brush strokes that follow the streamlines of four vortices, in blue, white and yellow."""
    scale = 2 * size / 256  # drawn at twice the size, and reduced
    sheet = Image.new("RGB", (2 * size, 2 * size), (24, 44, 96))
    pen = ImageDraw.Draw(sheet)
    centres = np.array([(0.25, 0.3), (0.72, 0.22), (0.6, 0.7), (0.15, 0.85)])
    spins = np.array([1.0, -1.0, 1.0, -1.0])
    palette = np.array([(20, 40, 104), (44, 84, 160), (86, 140, 196), (168, 200, 216), (236, 206, 92), (250, 240, 190)])
    for _ in range(5_000):
        place = generator.uniform(-0.05, 1.05, 2)
        offsets = place - centres
        distances = np.hypot(offsets[:, 0], offsets[:, 1]) + 0.04
        flow = (spins / distances**2) @ np.stack([-offsets[:, 1], offsets[:, 0]], axis=1) + np.array([0.6, 0.25])
        angle = math.atan2(flow[1], flow[0])
        light = 2.4 + 2.2 * math.cos(34 * float(distances.min())) + generator.normal(0, 0.7)
        colour = palette[int(np.clip(light, 0, len(palette) - 1))] + generator.normal(0, 10, 3)
        half = generator.uniform(4, 9) * scale * np.array([math.cos(angle), math.sin(angle)])
        start, end = 2 * size * place - half, 2 * size * place + half
        shade = tuple(int(value) for value in colour.clip(0, 255))
        pen.line([tuple(start), tuple(end)], fill=shade, width=max(1, round(generator.uniform(1.6, 3.2) * scale)))
    reduced = sheet.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(reduced)).permute(2, 0, 1).contiguous()
