"""Rank evaluated models by validation accuracy, and write a table and a bar chart.

python -m ch09_pipeline.stages.compare --in evaluate --out compare
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from ch09_pipeline.card import Card, write_card
from ch09_pipeline.contract import StageParser, cards_of, run
from common.files import atomic_path

COLUMNS = ("variant", "valid_accuracy", "valid_loss", "test_accuracy", "test_loss", "test_worst_class_accuracy")


def rank(cards: Sequence[Card]) -> list[Card]:
    """Sort evaluated models by descending validation accuracy; test metrics are not used."""

    def key(card: Card) -> tuple[float, float, str]:
        metrics = card.facts["metrics"]
        return -metrics["valid_accuracy"], metrics["valid_loss"], card.facts["variant"]

    return sorted(cards, key=key)


def compare(inputs: Sequence[Path], out: Path) -> str:
    """Compare all evaluations among the inputs; write comparison.csv, comparison.png and the card to `out`."""
    cards = rank(cards_of(inputs, "evaluate"))
    rows = [{"variant": card.facts["variant"], **card.facts["metrics"], "model": card.facts["model"]} for card in cards]
    (out / "card.json").unlink(missing_ok=True)  # the old card must not describe new files
    with atomic_path(out / "comparison.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "model"], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, out / "comparison.png")
    facts = {"rows": rows}
    outputs = ["comparison.csv", "comparison.png"]
    write_card(out / "card.json", "compare", parameters={}, cards=cards, outputs=outputs, facts=facts)
    return "\n".join(
        f"{row['variant']}: valid accuracy {row['valid_accuracy']:.4f}, test accuracy {row['test_accuracy']:.4f}"
        for row in rows
    )


def draw(rows: Sequence[dict], path: Path) -> None:
    """Draw a bar chart of the validation and test accuracies."""
    from common.drawing import plots

    names = [f"{row['variant']}, {split}" for row in rows for split in ("valid", "test")]
    values = [100 * row[f"{split}_accuracy"] for row in rows for split in ("valid", "test")]
    with atomic_path(path) as temporary:
        plots.save(plots.bars(names, values, title="accuracy", label="%"), temporary)


def main() -> None:
    """Run the stage from the command line."""
    run(compare, StageParser("ch09_pipeline.stages.compare", __doc__))


if __name__ == "__main__":
    main()
