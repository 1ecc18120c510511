"""Convert batches of images to tensors, each with a card of its contents.

    python -m ch09_pipeline.stages.prepare --in batches/batch-01.bin --out prepare

A batch is a file in CIFAR-10's binary layout; names of test batches begin with `test`. A broken batch is quarantined:
its card gives the reason, its tensors are empty, and the other batches are prepared. Whether an image is held out for
validation depends only on its pixels. The split therefore does not change when batches are added or removed, and copies
of an image are in the same split.

Dimensions: N images.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from ch09_pipeline.card import Card, write_card
from ch09_pipeline.contract import StageParser, files_of, run
from ch09_pipeline.names import encode
from common.data.images.binary import decode_cifar
from common.files import atomic_path

HELD_OUT = 10
"""One image in HELD_OUT is held out for validation."""


def prepare(inputs: Sequence[Path], out: Path) -> str:
    """Prepare all batches among the inputs; results are written to `out/<batch>.safetensors` and `.json`.

    Raises ValueError if there are no batches.
    """
    lines = []
    for path in files_of(inputs):
        if path.suffix != ".bin" and path not in inputs:
            continue  # a folder of CIFAR-10 also contains the names of its classes and a readme
        name, data = encode(path.stem), path.read_bytes()
        try:
            pixels, labels = decode(data, path.name)
            reason = None
        except ValueError as error:
            pixels, labels = np.empty((0, 3, 32, 32), np.uint8), np.empty(0, np.uint8)
            reason = str(error)
        split = "test" if path.name.startswith("test") else "train"
        held_out = np.array([zlib.crc32(image.tobytes()) % HELD_OUT == 0 for image in pixels], bool)
        if split == "test":
            held_out[:] = False
        card_path, tensors = out / f"{name}.json", out / f"{name}.safetensors"
        card_path.unlink(missing_ok=True)  # the old card must not describe new tensors
        with atomic_path(tensors) as temporary:
            temporary.write_bytes(
                save({"pixels": np.ascontiguousarray(pixels), "labels": labels.copy(), "held_out": held_out})
            )
        facts = {
            "split": split,
            "images": len(labels),
            "held_out": int(held_out.sum()),
            "images_per_class": np.bincount(labels, minlength=10).tolist(),
            "channel_means": pixels.mean((0, 2, 3)).round(3).tolist() if len(pixels) else None,
            "quarantined": reason,
        }
        write_card(card_path, "prepare", parameters={}, raw=[path], outputs=[tensors.name], facts=facts)
        lines.append(
            f"quarantined {path.name}: {reason}" if reason else f"{path.name}: {len(labels):,} images, {split}"
        )
    if not lines:
        raise ValueError(f"no batch (*.bin) in {', '.join(map(str, inputs))}")
    return "\n".join(lines)


def decode(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Decode a batch to (N, 3, 32, 32) pixels and (N,) labels.

    Raises ValueError for a broken batch, and for an image of a single colour, which indicates a damaged disk.
    """
    pixels, labels = decode_cifar(data, name)
    flat = pixels.reshape(len(pixels), -1)
    blank = flat.min(1) == flat.max(1)
    if blank.any():
        raise ValueError(f"{name} has an image of a single colour, number {int(blank.argmax())}")
    return pixels, labels


def read_prepared(cards: Sequence[Card]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read and concatenate prepared batches: (N, 3, 32, 32) pixels, (N,) labels, (N,) held-out flags."""
    datums = [load_file(card.path) for card in cards]
    pixels, labels, held_out = (
        np.concatenate([tensors[name] for tensors in datums]) for name in ("pixels", "labels", "held_out")
    )
    return pixels, labels, held_out


def main() -> None:
    """Run the stage from the command line."""
    run(prepare, StageParser("ch09_pipeline.stages.prepare", __doc__))


if __name__ == "__main__":
    main()
