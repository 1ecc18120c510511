"""Classify pictures with a trained network; write a table in Kaggle's layout and a contact sheet.

    python -m ch06_cnn.predict cat.jpg holiday/            # files, and folders with all pictures in them
    python -m ch06_cnn.predict --probabilities test/       # also the probability of every class

submission.csv has the columns id (file name without ending) and label. The network is that of the newest finished run
of cnn, classics, speedrun or transfer, or of the run folder named by --folder.

Dimensions: N pictures, S side length, K classes.
"""

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from ch06_cnn.architectures import classics
from ch06_cnn.class_names import load_class_names
from ch06_cnn.convolution import cnn
from ch06_cnn.speedrun import speedrun
from ch06_cnn.transfer import transfer
from common.cli import one_line_errors, parse
from common.config import require
from common.data.images.picture import SUFFIXES, is_picture, read_pictures
from common.files import atomic_path, read_json
from common.progress import say
from common.run_folders.folder import newest_run

COMMAND = "python -m ch06_cnn.predict"
PROGRAMS = tuple(f"ch06_cnn.{name}" for name in ("cnn", "classics", "speedrun", "transfer"))

CHUNK = 500
"""Number of pictures that are read at once."""
SHOWN = 60
"""Maximum number of pictures on the contact sheet."""
THUMBNAIL = 96
"""Side length of a picture on the contact sheet, in pixels."""
LISTED = 10
"""Maximum number of unreadable files that are listed."""


@dataclass(frozen=True)
class Options:
    """Pictures and the network that classifies them."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files, and folders in which all pictures are classified."""
    probabilities: bool = False
    """Also write probabilities.csv: one row per picture, one column per class."""
    folder: Path | None = None
    """Run folder. Default: the newest finished run of cnn, classics, speedrun or transfer."""
    to: Path | None = None
    """Folder for the results. Default: the folder predictions in the run folder."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require(len(self.pictures) > 0, f"name files or folders: {COMMAND} FILE|FOLDER ...", "nothing")


@dataclass(frozen=True)
class Classifier:
    """A trained network with what its input and output mean."""

    logits: Callable[[Tensor], Tensor]
    """(N, 3, S, S) uint8 -> (N, K) logits on the CPU"""
    size: int
    """Side length S of the pictures, in pixels."""
    class_names: tuple[str, ...]


def load_classifier(folder: Path) -> Classifier:
    """Load the network of a run folder.

    Raises FileNotFoundError if it is not a run folder or has no weights, ValueError if the run is of another program.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
    record = read_json(path)
    program = f"{record.get('chapter')}.{record.get('program')}"
    if program not in PROGRAMS:
        raise ValueError(f"{folder} is a run of {program}, not of cnn, classics, speedrun or transfer in chapter 6")
    names = load_class_names(folder)
    if program == "ch06_cnn.cnn":
        model, config = cnn.restore(folder)
        return Classifier(partial(cnn.predict, model, channels_last=config.channels_last), 32, names)
    if program == "ch06_cnn.classics":
        model, _ = classics.restore(folder)
        return Classifier(partial(cnn.predict, model), 32, names)
    if program == "ch06_cnn.speedrun":
        model, config = speedrun.restore(folder)
        return Classifier(partial(speedrun.classify, model, config=config, bf16=False), 32, names)
    model, config = transfer.restore(folder)
    return Classifier(partial(transfer.predict, model, size=config.image_size), config.image_size, names)


def find_pictures(places: Iterable[Path]) -> list[Path]:
    """List files, and the pictures in folders and their subfolders, each once, with numbers in numerical order.

    Raises FileNotFoundError if a file or folder does not exist, ValueError if there are no pictures.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += sorted(
                filter(is_picture, place.rglob("*")), key=lambda path: natural(str(path.relative_to(place)))
            )
        elif place.exists():
            found.append(place)
        else:
            raise FileNotFoundError(f"{place} does not exist")
    if not found:
        raise ValueError(f"{', '.join(map(str, places))}: no pictures ({' '.join(SUFFIXES)})")
    first: dict[Path, Path] = {}
    for path in found:
        first.setdefault(path.resolve(), path)
    return list(first.values())


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 2.png comes before 10.png."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]


def classify(classifier: Classifier, paths: Sequence[Path]) -> tuple[list[Path], Tensor, dict[Path, str]]:
    """Return the N readable pictures, their probabilities (N, K), and why others cannot be read."""
    readable, parts, unreadable = [], [], {}
    for start in range(0, len(paths), CHUNK):
        chunk = paths[start : start + CHUNK]
        pixels, places, reasons = read_pictures(chunk, classifier.size)
        readable += [chunk[place] for place in places]
        unreadable |= reasons
        if len(pixels):
            parts.append(classifier.logits(pixels).softmax(1))
    return readable, torch.cat(parts) if parts else torch.empty(0, len(classifier.class_names)), unreadable


def identifiers(paths: Sequence[Path]) -> list[str]:
    """Name pictures by file name without ending; files of the same name by their whole path."""
    count = Counter(path.stem for path in paths)
    return [path.stem if count[path.stem] == 1 else path.as_posix() for path in paths]


def write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_results(options: Options, folder: Path, classifier: Classifier, paths: Sequence[Path], p: Tensor) -> None:
    """Write submission.csv, with --probabilities also probabilities.csv, and the contact sheet."""
    from common.drawing import plots

    names, ids = classifier.class_names, identifiers(paths)
    best, labels = p.max(1)
    write_table(
        folder / "submission.csv", [("id", "label"), *zip(ids, (names[k] for k in labels.tolist()), strict=True)]
    )
    if options.probabilities:
        rows = ((name, *(f"{value:.6f}" for value in row)) for name, row in zip(ids, p.tolist(), strict=True))
        write_table(folder / "probabilities.csv", [("id", *names), *rows])
    thumbnails, *_ = read_pictures(paths[:SHOWN], THUMBNAIL)
    titles = [f"{names[k]} {value:.0%}" for k, value in zip(labels.tolist(), best.tolist(), strict=True)][:SHOWN]
    figure = plots.image_grid(thumbnails, columns=min(len(thumbnails), 6), titles=titles, size=1.3)
    with atomic_path(folder / "predictions.png") as path:
        plots.save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        options = parse(Options, words, prog=COMMAND, description=(__doc__ or "").strip())
        paths = find_pictures(options.pictures)
        run = options.folder or newest_run(options.out, cnn, classics, speedrun, transfer)
        classifier = load_classifier(run)
        say("network", f"{run}: {len(classifier.class_names)} classes, {classifier.size}x{classifier.size} pixels")
        readable, p, unreadable = classify(classifier, paths)
        for path, reason in list(unreadable.items())[:LISTED]:
            say("skipped", f"{path}: {reason}")
        if len(unreadable) > LISTED:
            say("skipped", f"{len(unreadable) - LISTED:,} more")
        if not readable:
            path, reason = next(iter(unreadable.items()))
            raise ValueError(f"none of {len(paths):,} files can be read; {path}: {reason}")
        counts = Counter(classifier.class_names[k] for k in p.argmax(1).tolist())
        say("labels", ", ".join(f"{name} {count:,}" for name, count in counts.most_common(10)))
        folder = options.to or run / "predictions"
        write_results(options, folder, classifier, readable, p)
        sheet = f" (the first {SHOWN} pictures)" if len(readable) > SHOWN else ""
        written = ["submission.csv", *(["probabilities.csv"] if options.probabilities else [])]
        say("saved", f"{folder}: {' '.join(written)} predictions.png{sheet}")


if __name__ == "__main__":
    main()
