"""Write and read cards: checksums of inputs, code and outputs of a stage's result, with its parameters and metrics.

A stage writes its card last, so files without a card, or files that do not match it, come from an interrupted stage and
are never used. A card also contains the essential fields of all earlier cards, back to the raw data. A model that is
copied together with its card can therefore be traced anywhere.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ch09_pipeline.sources import code_checksum
from common.files import read_json, write_json

ESSENTIAL = ("stage", "parameters", "code", "inputs", "outputs")
"""Fields that later cards repeat."""


@dataclass(frozen=True)
class Card:
    """One result of a stage."""

    stage: str
    parameters: Mapping[str, Any]
    code: str
    """Checksum of the stage's source files, including imported files of the suite."""
    inputs: Mapping[str, str]
    """Checksum of each file read."""
    outputs: Mapping[str, str]
    """Checksum of each file written; the files are in the folder of the card."""
    facts: Mapping[str, Any]
    """Further information: counts, metrics, reasons for quarantine."""
    lineage: Sequence[Mapping[str, Any]] = ()
    """Essential fields of all cards that this result depends on."""
    folder: Path = field(default=Path(), compare=False)

    @property
    def path(self) -> Path:
        """The main output file, which is the first one."""
        return self.folder / next(iter(self.outputs))

    @property
    def datum(self) -> str:
        """The name of the first input file without its suffix; for `prepare`, the name of the batch."""
        return Path(next(iter(self.inputs))).stem

    def named_outputs(self) -> dict[str, str]:
        """Return the checksums of the outputs by name; the names include stage and variant."""
        home = "/".join(filter(None, [self.stage, self.facts.get("variant")]))
        return {f"{home}/{name}": value for name, value in self.outputs.items()}

    def essentials(self) -> dict[str, Any]:
        """Return the fields that later cards repeat."""
        return {name: getattr(self, name) for name in ESSENTIAL}


def checksum(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_card(
    path: Path,
    stage: str,
    *,
    parameters: Mapping[str, Any],
    cards: Sequence[Card] = (),
    raw: Iterable[Path] = (),
    outputs: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write the card of existing output files; the inputs are the files of other cards and raw files."""
    inputs = {name: value for card in cards for name, value in card.named_outputs().items()}
    earlier = [entry for card in cards for entry in (*card.lineage, card.essentials())]
    lineage = {json.dumps(entry, sort_keys=True): entry for entry in earlier}  # without duplicates
    card = Card(
        stage=stage,
        parameters=dict(parameters),
        code=code_checksum(f"ch09_pipeline.stages.{stage}"),
        inputs=inputs | {file.name: checksum(file) for file in raw},
        outputs={name: checksum(path.parent / name) for name in outputs},
        facts=facts,
        lineage=list(lineage.values()),
    )
    content = asdict(card)
    del content["folder"]
    write_json(path, content)


def read_card(path: Path) -> Card:
    """Read a card and verify the checksums of its output files.

    Raises ValueError, naming the file, if it is not a card, or if an output is missing or does not match.
    """
    content = read_json(path)
    if not is_card(content):
        raise ValueError(f"{path} is not the card of a stage")
    card = Card(**content, folder=path.parent)
    again = f"{card.stage} again (in the pipeline, delete {path} first)"
    for name, expected in card.outputs.items():
        file = card.folder / name
        if not file.is_file():
            raise ValueError(f"{file} is missing, but its card {path.name} is there: run {again}")
        if checksum(file) != expected:
            raise ValueError(f"{file} does not match its card {path.name}: run {again}")
    return card


def is_card(content: Any) -> bool:
    """Return whether JSON content has the fields of a card."""
    return isinstance(content, dict) and content.keys() == {*ESSENTIAL, "facts", "lineage"}
