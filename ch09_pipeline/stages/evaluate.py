"""Evaluate trained networks on the test batches, and write metrics and a confusion matrix.

python -m ch09_pipeline.stages.evaluate --in train/dropout prepare --out evaluate
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from ch06_cnn.convolution import cnn
from ch09_pipeline.card import Card, write_card
from ch09_pipeline.contract import StageParser, cards_of, run
from ch09_pipeline.stages.prepare import read_prepared
from common.config import require
from common.data.images.image_set import Split
from common.drawing import plots
from common.files import atomic_path, write_json


def evaluate(inputs: Sequence[Path], out: Path, *, threads: int) -> str:
    """Evaluate all models among the inputs; results are written to `out/<variant>`.

    Raises ValueError if there are no test images.
    """
    require(threads > 0, "--threads must be at least 1", threads)
    torch.set_num_threads(threads)
    datums = [card for card in cards_of(inputs, "prepare") if card.facts["split"] == "test"]
    images = sum(card.facts["images"] for card in datums)
    if not images:
        raise ValueError("no test images among the inputs: names of test batches must begin with test")
    pixels, labels, _ = read_prepared(datums)
    test = Split(torch.from_numpy(pixels), torch.from_numpy(labels).long())
    return "\n".join(evaluate_one(model, datums, test, out, threads) for model in cards_of(inputs, "train"))


def evaluate_one(card: Card, datums: Sequence[Card], test: Split, out: Path, threads: int) -> str:
    """Evaluate one model on the test images."""
    variant, names = card.facts["variant"], card.facts["class_names"]
    model, config = cnn.restore(card.folder)
    logits = cnn.predict(model, test.pixels, channels_last=config.channels_last)
    metrics = cnn.measure(logits, test.labels, tuple(names))
    by_class = dict(zip(names, cnn.class_accuracy(logits, test.labels).tolist(), strict=True))
    home = out / variant
    (home / "card.json").unlink(missing_ok=True)  # the old card must not describe new files
    with atomic_path(home / "confusion.png") as temporary:
        plots.save(plots.confusion_matrix(test.labels, logits.argmax(1), names), temporary)
    write_json(home / "metrics.json", metrics | {"class_accuracy": by_class})
    trained = card.facts["metrics"]
    facts = {
        "variant": variant,
        "metrics": {f"test_{name}": value for name, value in metrics.items()}
        | {name: trained[name] for name in ("valid_accuracy", "valid_loss")},
        "images": len(test),
        "datums": sum(card.facts["images"] > 0 for card in datums),
        "model": card.outputs["model.safetensors"],
        "quarantined": {card.datum: card.facts["quarantined"] for card in datums if card.facts["quarantined"]},
    }
    write_card(
        home / "card.json",
        "evaluate",
        parameters={"threads": threads},
        cards=[card, *datums],
        outputs=["metrics.json", "confusion.png"],
        facts=facts,
    )
    return f"{variant}: test accuracy {metrics['accuracy']:.4f} on {len(test):,} images"


def main() -> None:
    """Run the stage from the command line."""
    parser = StageParser("ch09_pipeline.stages.evaluate", __doc__)
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    run(evaluate, parser)


if __name__ == "__main__":
    main()
