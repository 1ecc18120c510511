"""The input repositories: folders of batches (a datum a file) and of new pictures; embedded ones for the first run."""

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
"""Of the embedded repositories: training batches and to test with, images in each; new pictures."""


def embed_batches(folder: Path) -> None:
    """Write the embedded shapes as batches, unless the folder is there: what a person changes in it stays changed."""

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
    """Write some new shapes as pictures, named after what they show, unless the folder is there."""

    def fill(scratch: Path) -> None:
        drawn = shapes.draw_shapes(PICTURES, torch.Generator().manual_seed(shapes.SEED + 1))
        for number, (pixels, label) in enumerate(zip(drawn.pixels, drawn.labels.tolist(), strict=True), 1):
            picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            picture.save(scratch / f"{number:02}-{shapes.NAMES[label]}.png")

    _fill_once(folder, fill)


def _fill_once(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder, whole or not at all; of two that make it at once, the first counts."""
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
    """Say what is in a repository, and hash all its batches.

    Raises FileNotFoundError where there is no folder, ValueError where it has no batches to train on or none to test,
    or one whose name cannot be used.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--data {folder}: no such folder; omit --data to use the embedded shapes")
    names.check_batches(folder)
    batches = names.batches(folder)
    tests = [path for path in batches if path.name.startswith("test")]
    train = len(batches) - len(tests)
    if not train or not tests:
        raise ValueError(
            f"{folder} holds {train} training batches and {len(tests)} test batches (test*.bin): both are needed, "
            "in CIFAR-10's binary layout"
        )
    digest = hashlib.sha256("".join(f"{path.name} {checksum(path)}\n" for path in batches).encode()).hexdigest()
    images = sum(path.stat().st_size // CIFAR_RECORD for path in batches)
    origin = "embedded, drawn here" if embedded else "yours"
    description = f"{train} training batches, {len(tests)} test batches, {images:,} images, {origin}, in {folder}"
    return DataCard(name if embedded else own_name(name), embedded, digest, description)
