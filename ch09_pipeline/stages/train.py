"""Train chapter 6's network on the prepared batches, with the book's dropout or without.

    python -m ch09_pipeline.stages.train --in prepare --out train --variant nodropout --epochs 12

Test batches are not read, so a change to them does not cause a new training. The same flags and data give the same
weights; the number of threads is one of the flags, since it changes the order of floating-point sums.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from ch06_cnn.convolution import cnn
from ch09_pipeline.card import Card, write_card
from ch09_pipeline.contract import StageParser, cards_of, files_of, run
from ch09_pipeline.names import KEPT
from ch09_pipeline.stages.prepare import read_prepared
from common.config import RunOptions
from common.data.images.image_set import ImageSet, Split
from common.data.source import DataCard, sha256_of
from common.files import read_json, write_json

VARIANTS = {"dropout": True, "nodropout": False}
CLASS_NAMES = "batches.meta.txt"
"""The file of CIFAR-10's binary version with the names of the classes, one per line."""


def train(
    inputs: Sequence[Path],
    out: Path,
    *,
    variant: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    limit: int | None,
    threads: int,
    device: str,
    precision: str,
) -> str:
    """Train one variant; results are written to `out/<variant>`.

    Raises ValueError if there are no training images or no held-out images, or if a setting is invalid.
    """
    parameters = {name: value for name, value in locals().items() if name not in ("inputs", "out")}
    home, scratch = out / variant, out / f".{variant}"
    options = RunOptions(seed, device, precision, threads, limit, scratch)  # pyright: ignore[reportArgumentType]
    config = cnn.Config(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, dropout=VARIANTS[variant], run=options
    )
    cards = [card for card in cards_of(inputs, "prepare") if card.facts["split"] == "train"]
    if not cards:
        raise ValueError("no training batch among the inputs: batches named test* are test batches")
    meta = [path for path in files_of(inputs) if path.name == CLASS_NAMES]
    data = training_images(cards, read_class_names(meta), limit)
    shutil.rmtree(scratch, ignore_errors=True)  # results of an interrupted run
    print('train    the metrics named "test" below are those of the held-out validation images', flush=True)
    metrics = cnn.train(config, data)
    (folder,) = (path.parent for path in scratch.glob("*/*/*/summary.json"))
    summary = read_json(folder / "summary.json")
    keep_files(folder, home)
    shutil.rmtree(scratch)
    facts = {
        "variant": variant,
        "data_sha256": data.card.sha256,
        "images": {"train": len(data.train), "valid": len(data.valid)},
        "datums": {card.datum: card.facts["images"] for card in cards},
        "quarantined": {card.datum: card.facts["quarantined"] for card in cards if card.facts["quarantined"]},
        "class_names": list(data.class_names),
        "metrics": {name.replace("test_", "valid_", 1): value for name, value in metrics.items()},
        "seconds": summary["seconds"],
        "device": summary["device"],
        "versions": summary["versions"],
    }
    outputs = [name for name in KEPT if (home / name).exists()]
    write_card(home / "card.json", "train", parameters=parameters, cards=cards, raw=meta, outputs=outputs, facts=facts)
    return f"{variant}: valid accuracy {facts['metrics']['valid_accuracy']:.4f}, {home / 'model.safetensors'}"


def training_images(cards: Sequence[Card], class_names: Sequence[str], limit: int | None = None) -> ImageSet:
    """Build the data set for training; the held-out validation images are also its test split.

    Raises ValueError if there are no training images or no held-out images.
    """
    pixels, labels, held_out = read_prepared(cards)
    parts = {}
    for name, chosen in (("train", ~held_out), ("valid", held_out)):
        if not chosen.any():
            raise ValueError(f"none of {len(labels)} images is in the {name} split: add batches")
        split = Split(torch.from_numpy(pixels[chosen]), torch.from_numpy(labels[chosen]).long())
        parts[name] = split if limit is None else split[:limit]
    train, valid = parts["train"], parts["valid"]
    sha256 = sha256_of(train.pixels, train.labels, valid.pixels, valid.labels)
    description = f"{len(train):,} train, {len(valid):,} valid, out of {len(cards)} datums"
    return ImageSet(DataCard("prepared", False, sha256, description), tuple(class_names), train, valid, valid)


def read_class_names(paths: Sequence[Path]) -> list[str]:
    """Read the names of the ten classes, or return their numbers if there is no file; raises ValueError if not ten."""
    if not paths:
        return [str(label) for label in range(10)]
    lines = paths[0].read_text(encoding="utf-8").splitlines()
    names = [line.strip() for line in lines if line.strip()]  # the file of CIFAR-10 ends with an empty line
    if len(names) != 10:
        raise ValueError(f"{paths[0]} names {len(names)} classes, not 10")
    return names


def keep_files(folder: Path, home: Path) -> None:
    """Move the kept files of a finished run to their final folder, and adapt the path in its config."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "card.json").unlink(missing_ok=True)  # the old card must not describe new files
    for name in KEPT:
        (home / name).unlink(missing_ok=True)
        if (folder / name).exists():
            (folder / name).replace(home / name)
    record = read_json(home / "config.json")
    record["config"]["run"]["out"] = "."  # the scratch folder no longer exists, and paths differ between machines
    write_json(home / "config.json", record)


def main() -> None:
    """Run the stage from the command line."""
    parser = StageParser("ch09_pipeline.stages.train", __doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="dropout", help="the network with dropout or without")
    parser.add_argument("--epochs", type=int, default=12, help="number of passes over the training images")
    parser.add_argument("--batch-size", type=int, default=64, help="images per training step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--limit", type=int, help="maximum number of images of each split, for a quick look")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="floating-point format")
    run(train, parser)


if __name__ == "__main__":
    main()
