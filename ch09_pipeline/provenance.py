"""Show the data, code and parameters that a model was trained with, by checksum, and what has changed since.

    python -m ch09_pipeline.train provenance
    python -m ch09_pipeline.train provenance --model runs/ch09_pipeline/work/shapes/train/dropout

All information is read from the card in the model's folder, so a copied folder can be traced anywhere. The column `now`
compares the card with the current data and code on this machine.
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
"""Maximum number of digits of a checksum, and of rows of data, that are printed; the card contains all."""
SAME, CHANGED, GONE = "the same", "changed", "missing"


@dataclass(frozen=True)
class Config:
    """Settings of the report."""

    model: Path | None = None
    """Folder of a model and its card; by default the published model."""
    data: Path | None = None
    """Folder of batches to compare with; by default that of the pipeline's last run."""
    run: RunOptions = field(default_factory=RunOptions)


def data_folder(config: Config) -> Path:
    """Find the folder of batches to compare with."""
    settings = work_folder(config.run, config.data) / engine.SETTINGS
    if config.data is not None or not settings.is_file():
        return config.data or settings.parent / "data"
    return Path(read_json(settings)["data"])


def data_rows(entries: Sequence[Mapping[str, Any]], folder: Path) -> list[tuple[str, str, str]]:
    """List the raw input files with checksum and state: the same, changed or missing."""
    raw = {name: value for entry in entries for name, value in entry["inputs"].items() if "/" not in name}
    rows = []
    for name, value in sorted(raw.items()):
        path = folder / name
        now = GONE if not path.is_file() else SAME if checksum(path) == value else CHANGED
        rows.append((name, value[:DIGITS], now))
    return rows


def code_rows(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """List the stages with the checksum of their code and its state: the same or changed."""
    rows = []
    for stage, code in dict.fromkeys((entry["stage"], entry["code"]) for entry in entries):
        now = code_checksum(f"ch09_pipeline.stages.{stage}")
        rows.append((stage, code[:DIGITS], SAME if now == code else CHANGED))
    return rows


def check_chain(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError if a stage read a file of an earlier stage that is not in the card."""
    written = {value for entry in entries for value in entry["outputs"].values()}
    for entry in entries:
        for name, value in entry["inputs"].items():
            if "/" in name and value not in written:  # names of raw files contain no slash
                raise ValueError(
                    f"the card is incomplete: it has no stage that wrote {name}, which {entry['stage']} read"
                )


def format_parameters(parameters: Mapping[str, Any]) -> str:
    """Format parameters as text, without those that are not set."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in parameters.items() if value is not None)


def train(config: Config) -> dict[str, float]:
    """Print the provenance of a model; return the number of raw files and of changed data and code.

    Raises FileNotFoundError if there is no model, ValueError if it does not match its card.
    """
    folder = config.model or status.find_work(status.Config(config.data, config.run)) / "publish"
    if not (folder / "card.json").is_file():
        if config.model is None:
            raise FileNotFoundError(f"nothing is published in {folder} yet: run python -m ch09_pipeline.train pipeline")
        raise FileNotFoundError(f"{folder} has no card.json: --model takes a folder written by train or publish")
    card = read_card(folder / "card.json")
    if "model.safetensors" not in card.outputs:
        raise ValueError(f"{folder} is a result of the stage {card.stage} and contains no model")
    entries = [*card.lineage, card.essentials()]
    check_chain(entries)
    say("model", f"{card.facts['variant']}, sha256 {card.outputs['model.safetensors']}, matches its card")
    code = code_rows(entries)
    print_table(["code", "sha256", "now"], code)
    data = data_rows(entries, data_folder(config))
    print_table(["data", "sha256", "now"], data[:ROWS])
    if len(data) > ROWS:
        say("data", f"and {len(data) - ROWS} more, in {folder / 'card.json'}")
    for stage, parameters in dict.fromkeys(
        (entry["stage"], format_parameters(entry["parameters"])) for entry in entries
    ):
        if parameters:
            say(stage, parameters)
    for reason in card.facts["quarantined"].values():
        say("broken", f"in quarantine: {reason}")
    versions = ", ".join(f"{name} {version}" for name, version in card.facts["versions"].items())
    say("trained", f"on {card.facts['device']}, with {versions}")
    changed = [sum(row[2] != SAME for row in rows) for rows in (data, code)]
    return {"files": len(data), "data_changed": changed[0], "code_changed": changed[1]}
