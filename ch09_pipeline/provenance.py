"""Which data, code and parameters made a model, by checksum, and what has changed since.

    python -m ch09_pipeline.train provenance
    python -m ch09_pipeline.train provenance --model runs/ch09_pipeline/work/shapes/train/dropout

All of it is read from the card beside the model, so a copy of both can be traced anywhere; the column `now` compares it
with the data and the code that lie here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ch09_pipeline import engine, status
from ch09_pipeline.card import checksum, read_card
from ch09_pipeline.pipeline import work_folder
from ch09_pipeline.sources import code_checksum
from common.config import RunOptions
from common.files import read_json
from common.progress import print_table, say

DIGITS, ROWS = 16, 24
"""Of a checksum and of the table of datums, as many are shown; the card holds all."""
SAME, CHANGED, GONE = "the same", "changed", "gone"


@dataclass(frozen=True)
class Config:
    """Which model."""

    model: Path | None = None
    """Folder of a model and its card; by default the published one."""
    data: Path | None = None
    """Folder of batches to compare with; by default the one that the pipeline was run on."""
    run: RunOptions = field(default_factory=RunOptions)


def data_folder(config: Config) -> Path:
    """Find the folder of batches to compare with."""
    settings = work_folder(config.run, config.data) / engine.SETTINGS
    if config.data is not None or not settings.is_file():
        return config.data or settings.parent / "data"
    return Path(read_json(settings)["data"])


def data_rows(entries: Sequence[Mapping[str, Any]], folder: Path) -> list[tuple[str, str, str]]:
    """List the raw files that were read, with what has become of them."""
    raw = {name: value for entry in entries for name, value in entry["inputs"].items() if "/" not in name}
    rows = []
    for name, value in sorted(raw.items()):
        path = folder / name
        now = GONE if not path.is_file() else SAME if checksum(path) == value else CHANGED
        rows.append((name, value[:DIGITS], now))
    return rows


def code_rows(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """List the code of each stage, with whether it is still the same."""
    rows = []
    for stage, code in dict.fromkeys((entry["stage"], entry["code"]) for entry in entries):
        now = code_checksum(f"ch09_pipeline.stages.{stage}")
        rows.append((stage, code[:DIGITS], SAME if now == code else CHANGED))
    return rows


def check_chain(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError where a stage read a file that no stage before it made: raw data have no stage in their name."""
    made = {value for entry in entries for value in entry["outputs"].values()}
    for entry in entries:
        for name, value in entry["inputs"].items():
            if "/" in name and value not in made:
                raise ValueError(f"the card has a gap: no stage in it made {name}, which {entry['stage']} read")


def spell(parameters: Mapping[str, Any]) -> str:
    """Write parameters as a person reads them."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in parameters.items() if value is not None)


def train(config: Config) -> dict[str, float]:
    """Show where a model comes from; return how many datums made it, and how much has changed since.

    Raises FileNotFoundError where there is no model, ValueError where it is not the one that its card speaks of.
    """
    folder = config.model or status.find_work(status.Config(config.data, config.run)) / "publish"
    if not (folder / "card.json").is_file():
        if config.model is None:
            raise FileNotFoundError(f"nothing is published in {folder} yet: run python -m ch09_pipeline.train pipeline")
        raise FileNotFoundError(
            f"{folder} holds no card.json: --model takes a folder that train or publish has written"
        )
    card = read_card(folder / "card.json")
    if "model.safetensors" not in card.outputs:
        raise ValueError(f"{folder} is of the stage {card.stage} and holds no model")
    entries = [*card.lineage, card.essentials()]
    check_chain(entries)
    say("model", f"{card.facts['variant']}, sha256 {card.outputs['model.safetensors']}, as its card says")
    code = code_rows(entries)
    print_table(["code", "sha256", "now"], code)
    data = data_rows(entries, data_folder(config))
    print_table(["data", "sha256", "now"], data[:ROWS])
    if len(data) > ROWS:
        say("data", f"and {len(data) - ROWS} more, in {folder / 'card.json'}")
    for stage, parameters in dict.fromkeys((entry["stage"], spell(entry["parameters"])) for entry in entries):
        if parameters:
            say(stage, parameters)
    for reason in card.facts["quarantined"].values():
        say("broken", f"in quarantine: {reason}")
    versions = ", ".join(f"{name} {version}" for name, version in card.facts["versions"].items())
    say("trained", f"on {card.facts['device']}, with {versions}")
    changed = [sum(row[2] != SAME for row in rows) for rows in (data, code)]
    return {"files": len(data), "data_changed": changed[0], "code_changed": changed[1]}
