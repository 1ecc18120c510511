"""Publish the best model by validation accuracy, unless it is below the threshold.

    python -m ch09_pipeline.stages.publish --in compare train --out publish --threshold 0.5

The published folder is a run folder, which `ch06_cnn.convolution.cnn.restore` and chapter 10 can read. If the best
model is below the threshold, the previously published one is kept.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ch09_pipeline.card import Card, write_card
from ch09_pipeline.contract import StageParser, cards_of, only_card, run
from common.files import atomic_path, read_json, write_json

MODEL_FILES = ("model.safetensors", "config.json")


def publish(inputs: Sequence[Path], out: Path, *, threshold: float) -> str:
    """Publish the best model of the comparison.

    Raises ValueError if it is below the threshold, or not among the inputs.
    """
    comparison = only_card(cards_of(inputs, "compare"))
    best = comparison.facts["rows"][0]
    models = [card for card in cards_of(inputs, "train") if card.outputs["model.safetensors"] == best["model"]]
    if not models:
        raise ValueError(f"the best model of the comparison, {best['variant']}, is not among the inputs: compare again")
    if best["valid_accuracy"] < threshold:
        raise ValueError(
            f"refused: the best model, {best['variant']}, has a validation accuracy of {best['valid_accuracy']:.4f}, "
            f"below --threshold {threshold:g}; the published model is kept"
        )
    model = models[0]
    (out / "card.json").unlink(missing_ok=True)  # the old card must not describe new files
    for name in MODEL_FILES:
        with atomic_path(out / name) as temporary:
            shutil.copyfile(model.folder / name, temporary)
    write_json(out / "summary.json", summary(model, best))
    facts = {
        "variant": best["variant"],
        "class_names": model.facts["class_names"],
        "metrics": {name: value for name, value in best.items() if name not in ("variant", "model")},
        "images": model.facts["images"],
        "datums": model.facts["datums"],
        "quarantined": model.facts["quarantined"],
        "device": model.facts["device"],
        "versions": model.facts["versions"],
    }
    cards, outputs = [model, comparison], [*MODEL_FILES, "summary.json"]
    parameters = {"threshold": threshold}
    write_card(out / "card.json", "publish", parameters=parameters, cards=cards, outputs=outputs, facts=facts)
    return f"published {best['variant']}: valid accuracy {best['valid_accuracy']:.4f}, {out / MODEL_FILES[0]}"


def summary(model: Card, best: dict) -> dict:
    """Build the content of summary.json in a run folder, with the metrics of the evaluation."""
    record = read_json(model.folder / "config.json")
    return {
        **{name: record[name] for name in ("chapter", "program", "config", "data")},
        "metrics": {name: value for name, value in best.items() if name not in ("variant", "model")},
        "seconds": model.facts["seconds"],
        "device": model.facts["device"],
        "versions": model.facts["versions"],
    }


def main() -> None:
    """Run the stage from the command line."""
    parser = StageParser("ch09_pipeline.stages.publish", __doc__)
    parser.add_argument("--threshold", type=float, default=0.5, help="minimum validation accuracy, between 0 and 1")
    run(publish, parser)


if __name__ == "__main__":
    main()
