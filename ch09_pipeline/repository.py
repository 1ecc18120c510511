"""Describe the input folders of batches and of new images, and create embedded ones for the first run."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from ch09_pipeline import names
from ch09_pipeline.card import checksum
from ch09_pipeline.stages.train import CLASS_NAMES
from common.data.images import shapes
from common.data.images.binary import CIFAR_RECORD
from common.data.images.cifar import encode_cifar
from common.data.published import own_name
from common.data.source import DataCard

BATCHES, TEST_BATCHES, IMAGES, PICTURES = 20, 2, 250, 12
"""Sizes of the embedded data: training batches, test batches, images per batch, new images."""


def embed_batches(folder: Path) -> None:
    """Write the embedded shapes as batches, unless the folder exists: the user's changes are kept."""

    def fill(scratch: Path) -> None:
        count = (BATCHES + TEST_BATCHES) * IMAGES
        drawn = shapes.draw_shapes(count, torch.Generator().manual_seed(shapes.SEED))
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        names = [f"batch-{n:02}" for n in range(1, BATCHES + 1)] + [f"test-{n}" for n in range(1, TEST_BATCHES + 1)]
        for name, index in zip(names, order.split(IMAGES), strict=True):
            (scratch / f"{name}.bin").write_bytes(encode_cifar(drawn[index]))
        (scratch / CLASS_NAMES).write_text("".join(f"{name}\n" for name in shapes.NAMES), encoding="utf-8")

    _fill_once(folder, fill)


def embed_pictures(folder: Path) -> None:
    """Write new shapes as PNG files named after their classes, unless the folder exists."""

    def fill(scratch: Path) -> None:
        drawn = shapes.draw_shapes(PICTURES, torch.Generator().manual_seed(shapes.SEED + 1))
        for number, (pixels, label) in enumerate(zip(drawn.pixels, drawn.labels.tolist(), strict=True), 1):
            picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            picture.save(scratch / f"{number:02}-{shapes.NAMES[label]}.png")

    _fill_once(folder, fill)


def _fill_once(folder: Path, fill: Callable[[Path], None]) -> None:
    """Create and fill a folder atomically; if two processes create it at the same time, the first one wins."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        filled = Path(scratch) / folder.name
        filled.mkdir()
        fill(filled)
        try:
            filled.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def describe(folder: Path, *, name: str, embedded: bool) -> DataCard:
    """Count and hash the batches of a folder.

    Raises FileNotFoundError if the folder does not exist, ValueError if it has no training batch or no test batch, or
    if a batch has an unusable name or cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--data {folder}: no such folder; omit --data to use the embedded shapes")
    names.check_batches(folder)
    batches = names.batches(folder)
    tests = [path for path in batches if path.name.startswith("test")]
    train = len(batches) - len(tests)
    if not train or not tests:
        raise ValueError(
            f"{folder} contains {train} training batches and {len(tests)} test batches (test*.bin): both are needed, "
            "in CIFAR-10's binary layout"
        )
    digest = hashlib.sha256("".join(f"{path.name} {checksum(path)}\n" for path in batches).encode()).hexdigest()
    images = sum(path.stat().st_size // CIFAR_RECORD for path in batches)
    origin = "embedded, drawn here" if embedded else "yours"
    description = f"{train} training batches, {len(tests)} test batches, {images:,} images, {origin}, in {folder}"
    return DataCard(name if embedded else own_name(name), embedded, digest, description)
