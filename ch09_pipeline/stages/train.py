"""Train: prepared batches in, a trained network out: chapter 6's, with the book's dropout or without.

    python -m ch09_pipeline.stages.train --in prepare --out train --variant nodropout --epochs 12

Images of test datums are left alone; a change to them trains nothing anew. The number of threads is a parameter like
any other, since sums in another order end in other bits: the same flags and data give the same weights.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from ch06_cnn.convolution import cnn
from ch09_pipeline.card import Card, write_card
from ch09_pipeline.contract import StageParser, cards_of, files_of, run
from ch09_pipeline.stages.prepare import read_prepared
from common.config import RunOptions
from common.data.images.image_set import ImageSet, Split
from common.data.source import DataCard, sha256_of
from common.files import read_json, write_json

VARIANTS = {"dropout": True, "nodropout": False}
CLASS_NAMES = "batches.meta.txt"
"""The file of CIFAR-10's binary version that names its classes, one a line."""
KEPT = ("model.safetensors", "config.json", "metrics.jsonl", "curves.png", "filters.png", "gradcam.png")
"""What is kept of chapter 6's run folder."""


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
    """Train one variant into `out/<variant>`.

    Raises ValueError where there is nothing to train on, nothing held out, or a setting that cannot be.
    """
    parameters = {name: value for name, value in locals().items() if name not in ("inputs", "out")}
    home, scratch = out / variant, out / f".{variant}"
    options = RunOptions(seed, device, precision, threads, limit, scratch)  # pyright: ignore[reportArgumentType]
    config = cnn.Config(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, dropout=VARIANTS[variant], run=options
    )
    cards = [card for card in cards_of(inputs, "prepare") if card.facts["split"] == "train"]
    if not cards:
        raise ValueError("no training batch: names that begin with test are test batches")
    meta = [path for path in files_of(inputs) if path.name == CLASS_NAMES]
    data = training_images(cards, read_class_names(meta), limit)
    shutil.rmtree(scratch, ignore_errors=True)  # what a stopped run has left there is worth nothing
    print("train    the images held out for validation stand where a training of its own has its test", flush=True)
    metrics = cnn.train(config, data)
    (folder,) = (path.parent for path in scratch.glob("*/*/*/summary.json"))
    summary = read_json(folder / "summary.json")
    settle(folder, home)
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
    """Put together what the network learns from, with the images held out for validation in the place of a test.

    Raises ValueError where there is nothing to train on or nothing held out.
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
    """Read the names of the ten classes, or number them where no file names them."""
    if not paths:
        return [str(label) for label in range(10)]
    lines = paths[0].read_text(encoding="utf-8").splitlines()
    names = [line.strip() for line in lines if line.strip()]  # the file of CIFAR-10 ends with an empty line
    if len(names) != 10:
        raise ValueError(f"{paths[0]} names {len(names)} classes, not 10")
    return names


def settle(folder: Path, home: Path) -> None:
    """Move what is kept of a finished run to its home, the place of its config among it."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "card.json").unlink(missing_ok=True)  # it vouches for the files that are replaced now
    for name in KEPT:
        (home / name).unlink(missing_ok=True)
        if (folder / name).exists():
            (folder / name).replace(home / name)
    record = read_json(home / "config.json")
    record["config"]["run"]["out"] = "."  # the scratch folder is gone, and a path would be another's on each machine
    write_json(home / "config.json", record)


def main() -> None:
    """Read the command line."""
    parser = StageParser("ch09_pipeline.stages.train", __doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="dropout", help="the book's network, or without dropout")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the training images")
    parser.add_argument("--batch-size", type=int, default=64, help="images a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak step size")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number")
    parser.add_argument("--limit", type=int, help="use only that many images of each split: for a quick look")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="arithmetic")
    run(train, parser)


if __name__ == "__main__":
    main()
