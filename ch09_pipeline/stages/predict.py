"""Classify new images with the published model, and write one CSV file per input file.

    python -m ch09_pipeline.stages.predict --in publish new --out predict

A file is an image (PNG, JPEG ..., resized to 32x32) or a batch in CIFAR-10's binary layout, whose labels are ignored.
An unreadable file is put into quarantine: its CSV has no rows, its card gives the reason, and the other files are
classified.

Dimensions: N images, K classes.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ch06_cnn.convolution import cnn
from ch09_pipeline.card import write_card
from ch09_pipeline.contract import StageParser, card_and_raw_files, run
from ch09_pipeline.names import encode
from common.config import require
from common.data.images.binary import decode_cifar
from common.files import atomic_path


def predict(inputs: Sequence[Path], out: Path, *, threads: int) -> str:
    """Classify all new files among the inputs; results are written to `out/<file>.csv`.

    Raises ValueError if there are no new files.
    """
    require(threads > 0, "--threads must be at least 1", threads)
    torch.set_num_threads(threads)
    card, new = card_and_raw_files(inputs, "publish")
    names = card.facts["class_names"]
    model, config = cnn.restore(card.folder)
    lines = []
    for path in new:
        try:
            pixels, reason = read_pictures(path), None
        except ValueError as error:
            pixels, reason = torch.empty(0, 3, 32, 32, dtype=torch.uint8), str(error)
        rows = []
        if len(pixels):
            probabilities = cnn.predict(model, pixels, channels_last=config.channels_last).softmax(1)
            best, classes = (values.tolist() for values in probabilities.max(1))
            rows = [(path.name, n, names[k], f"{p:.4f}") for n, (k, p) in enumerate(zip(classes, best, strict=True))]
        name = encode(path.name)
        (out / f"{name}.json").unlink(missing_ok=True)  # the old card must not describe a new file
        table = out / f"{name}.csv"
        with atomic_path(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("file", "image", "class", "probability"), *rows])
        result = f"{rows[0][2]} {rows[0][3]}" if len(rows) == 1 else f"{len(rows):,} images"
        summary = f"quarantined {path.name}: {reason}" if reason else f"{path.name}: {result}"
        facts = {"images": len(pixels), "quarantined": reason, "summary": summary}
        write_card(
            out / f"{name}.json",
            "predict",
            parameters={"threads": threads},
            cards=[card],
            raw=[path],
            outputs=[table.name],
            facts=facts,
        )
        lines.append(summary)
    if not lines:
        raise ValueError("no new image among the inputs: add image files or their folder to --in")
    return "\n".join(lines)


def read_pictures(path: Path) -> Tensor:
    """Read a file as (N, 3, 32, 32) uint8; an image is cropped to its central square and resized.

    Raises ValueError, naming the file, if it cannot be read.
    """
    if path.suffix == ".bin":
        pixels, _ = decode_cifar(path.read_bytes(), path.name)
        return torch.from_numpy(pixels.copy())
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (32, 32))
    except Exception as error:  # Pillow raises many kinds of exceptions for a broken file
        reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{path.name} cannot be read: {reason}") from error
    return (
        torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1).unsqueeze(0)
    )


def main() -> None:
    """Run the stage from the command line."""
    parser = StageParser("ch09_pipeline.stages.predict", __doc__)
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    run(predict, parser)


if __name__ == "__main__":
    main()
