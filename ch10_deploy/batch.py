"""Classify one shard of a folder of images, and write the predictions as CSV.

    python -m ch10_deploy.batch --model digits --images data/MNIST/raw          # all images of MNIST
    python -m ch10_deploy.batch --images data/cifar-10-batches-bin --shards 10 --shard 3    # the fourth of ten shards

In a cluster every shard has its own pod, and Kubernetes sets the index of the shard in JOB_COMPLETION_INDEX. All pods
order the images in the same way, by file name and position in the file. Of N images, shard k of n contains those from
k N // n up to but not including (k + 1) N // n, so each image is in exactly one shard and sizes differ by at most one.
Images are PNG files, CIFAR-10's binary files (*.bin) and MNIST's (*idx3-ubyte, gzipped or not).

Dimensions: B images of a batch, N images of the folder, K classes.
"""

import csv
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ch10_deploy.inference.image_decoding import from_png
from ch10_deploy.inference.models import Model, find_card, load_model, newest_export
from ch10_deploy.inference.trials import try_model
from ch10_deploy.server.refusal import Refusal
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.images.binary import CIFAR_RECORD, decode_cifar, read_idx
from common.files import atomic_path, explain_unwritable

DOOR = "python -m ch10_deploy.batch"

SHAPES = {"digits": (28, 28), "pictures": (32, 32, 3)}
"""Input shape of each network: rows, columns, and channels if there are several."""

FileRange = tuple[Path, int, int]
"""A file, the position of its first image in the shard, and the position after the last one."""

Batch = tuple[list[tuple[Path, int]], np.ndarray]
"""File and position of each image, and the images, (B, *shape) uint8."""

Row = tuple[Path, int, str, float]
"""File and position of an image, its predicted class and that class's probability."""

COLUMNS = ("file", "image", "label", "probability")


@dataclass(frozen=True)
class Options:
    """Settings of a shard."""

    images: Path
    """Folder of images, including its sub-folders."""
    model: Literal["digits", "pictures"] = "pictures"
    """Classifier: digits takes 28x28 grey images, pictures 32x32 colour images."""
    models: Path | None = None
    """Folder of exported models; by default the newest export in runs."""
    out: Path = Path("predictions")
    """Folder for the CSV file."""
    shards: int = 1
    """Number of shards."""
    shard: int | None = None
    """Index of the shard, from 0; by default JOB_COMPLETION_INDEX, or 0 if that is not set."""
    batch_size: int = 256
    """Images per batch."""

    def __post_init__(self) -> None:
        require_positive(self, "shards", "batch_size")
        if self.shard is not None:
            require(0 <= self.shard < self.shards, f"--shard must be between 0 and {self.shards - 1}", self.shard)


class Source(NamedTuple):
    """A file and its number of images."""

    path: Path
    count: int


def shard_of(options: Options) -> int:
    """Return the index of the shard; raises ValueError if JOB_COMPLETION_INDEX is out of range."""
    if options.shard is not None:
        return options.shard
    index = os.environ.get("JOB_COMPLETION_INDEX", "0")
    known = index.isascii() and index.isdigit() and int(index) < options.shards
    rule = f"JOB_COMPLETION_INDEX must be between 0 and {options.shards - 1} for --shards {options.shards}"
    require(known, rule, index)
    return int(index)


def find_sources(folder: Path) -> list[Source]:
    """List the image files, in the same order for all shards; X.gz is skipped if X exists.

    Raises FileNotFoundError if there are none, ValueError if one is broken.
    """
    files = {path for path in folder.rglob("*") if path.is_file()}
    files -= {path for path in files if path.suffix == ".gz" and path.with_suffix("") in files}  # the same images
    in_order = sorted(files, key=lambda path: path.as_posix())
    sources = [Source(path, count) for path in in_order if (count := count_images(path)) is not None]
    if not sources:
        raise FileNotFoundError(f"there are no images in {folder}: add PNG, *.bin or *idx3-ubyte[.gz] files")
    return sources


def count_images(path: Path) -> int | None:
    """Count the images of a file; None for other files, for example labels."""
    if is_idx(path):
        return len(read_idx(path))
    if path.suffix == ".bin":
        size = path.stat().st_size
        require(
            size > 0 and size % CIFAR_RECORD == 0, f"{path} must contain records of {CIFAR_RECORD:,} bytes", f"{size:,}"
        )
        return size // CIFAR_RECORD
    return 1 if path.suffix.lower() == ".png" else None


def is_idx(path: Path) -> bool:
    """Return whether a file has the name of MNIST images."""
    return path.name.removesuffix(".gz").endswith("idx3-ubyte")


def read_images(path: Path) -> np.ndarray:
    """Read a file as (N, 28, 28) or (N, 32, 32, 3) uint8; raises ValueError, naming the file."""
    if is_idx(path):
        return read_idx(path)
    if path.suffix == ".bin":
        planes, _ = decode_cifar(path.read_bytes(), path)
        return planes.transpose(0, 2, 3, 1)
    try:
        return from_png(path.read_bytes())[np.newaxis]
    except Refusal as refusal:
        raise ValueError(f"{path}: {refusal.reason}") from refusal


def select_shard(sources: Sequence[Source], shard: int, shards: int) -> list[FileRange]:
    """Select the images of a shard, as one range per file."""
    total = sum(source.count for source in sources)
    start, stop = shard * total // shards, (shard + 1) * total // shards
    ranges, before = [], 0
    for path, count in sources:
        first, last = max(start - before, 0), min(stop - before, count)
        if first < last:
            ranges.append((path, first, last))
        before += count
    return ranges


def batches(ranges: Sequence[FileRange], shape: tuple[int, ...], batch_size: int) -> Iterator[Batch]:
    """Yield the images of a shard in batches, (B, *shape) uint8, with file and position of each image."""
    places: list[tuple[Path, int]] = []
    parts: list[np.ndarray] = []
    for path, first, last in ranges:
        images = read_images(path)[first:last]
        require(
            images.shape[1:] == shape, f"{path} must contain images of {'x'.join(map(str, shape))}", images.shape[1:]
        )
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            places += [(path, first + start + index) for index in range(len(part))]
            parts.append(part)
            if len(places) >= batch_size:
                whole = np.concatenate(parts)
                yield places[:batch_size], whole[:batch_size]
                places, parts = places[batch_size:], [whole[batch_size:]]
    if places:
        yield places, np.concatenate(parts)


def predict(model: Model, images: Iterator[Batch]) -> Iterator[Row]:
    """Yield the file, position, predicted class and probability of each image."""
    classes = model.serving.classes
    for places, pixels in images:
        probabilities = model(pixels=pixels)["probabilities"]  # (B, K)
        for (path, index), row in zip(places, probabilities, strict=True):
            yield path, index, classes[row.argmax()], float(row.max())


def write_table(path: Path, folder: Path, rows: Sequence[Row]) -> None:
    """Write predictions as CSV, with paths relative to the folder of images."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for place, index, label, probability in rows:
            table.writerow([place.relative_to(folder).as_posix(), index, label, f"{probability:.6f}"])


def classify(options: Options) -> Path:
    """Classify a shard and write its CSV file atomically; return the path of the file."""
    shard = shard_of(options)
    folder = options.models or newest_export(Path("runs"))
    card = find_card(folder, options.model)
    model = try_model(load_model(card), card)
    sources = find_sources(options.images)
    ranges = select_shard(sources, shard, options.shards)
    mine, total = sum(last - first for _, first, last in ranges), sum(source.count for source in sources)
    print(f"images   {mine:,} of the {total:,} in {options.images}: shard {shard} of {options.shards}")
    place = model.session.get_providers()[0]
    print(f"model    {options.model} from {folder}, sha256 {model.card.sha256[:12]}, on {place}")
    path = options.out / f"{shard:05d}-of-{options.shards:05d}.csv"
    began = time.perf_counter()
    rows = list(predict(model, batches(ranges, SHAPES[options.model], options.batch_size)))
    with explain_unwritable(options.out), atomic_path(path) as temporary:
        write_table(temporary, options.images, rows)
    seconds = time.perf_counter() - began
    print(f"saved    {path}: {mine / seconds:,.0f} images/s")
    return path


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and classify the shard."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        classify(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
