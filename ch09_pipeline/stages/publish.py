"""Publish: the best model by validation goes out with its card; one that is not good enough is refused.

    python -m ch09_pipeline.stages.publish --in compare train --out publish --threshold 0.5

What is published is a run folder: `ch06_cnn.convolution.cnn.restore` reads it, and so does chapter 10. A refusal leaves
what was published before as it is.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ch09_pipeline.card import Card, write_card
from ch09_pipeline.contract import StageParser, cards_of, one, run
from common.files import atomic_path, read_json, write_json

WHOLE = ("model.safetensors", "config.json")


def publish(inputs: Sequence[Path], out: Path, *, threshold: float) -> str:
    """Publish the model that the comparison calls the best.

    Raises ValueError where it stays below the threshold, or is not among the inputs.
    """
    comparison = one(cards_of(inputs, "compare"))
    best = comparison.facts["rows"][0]
    models = [card for card in cards_of(inputs, "train") if card.outputs["model.safetensors"] == best["model"]]
    if not models:
        raise ValueError(f"the model that compares best, {best['variant']}, is not among the inputs: compare again")
    if best["valid_accuracy"] < threshold:
        raise ValueError(
            f"refused: the best model, {best['variant']}, has a validation accuracy of {best['valid_accuracy']:.4f}, "
            f"below --threshold {threshold:g}; what was published before stays"
        )
    model = models[0]
    (out / "card.json").unlink(missing_ok=True)  # it vouches for the files that are replaced now
    for name in WHOLE:
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
    cards, outputs = [model, comparison], [*WHOLE, "summary.json"]
    parameters = {"threshold": threshold}
    write_card(out / "card.json", "publish", parameters=parameters, cards=cards, outputs=outputs, facts=facts)
    return f"published {best['variant']}: valid accuracy {best['valid_accuracy']:.4f}, {out / WHOLE[0]}"


def summary(model: Card, best: dict) -> dict:
    """Write what a run of chapter 6 says of itself at its end, with the measures of the stages that took them."""
    record = read_json(model.folder / "config.json")
    return {
        **{name: record[name] for name in ("chapter", "program", "config", "data")},
        "metrics": {name: value for name, value in best.items() if name not in ("variant", "model")},
        "seconds": model.facts["seconds"],
        "device": model.facts["device"],
        "versions": model.facts["versions"],
    }


def main() -> None:
    """Read the command line."""
    parser = StageParser("ch09_pipeline.stages.publish", __doc__)
    parser.add_argument("--threshold", type=float, default=0.5, help="validation accuracy that a model must reach")
    run(publish, parser)


if __name__ == "__main__":
    main()
