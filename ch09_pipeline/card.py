"""The card that a stage leaves beside its files: what it read, with which code and parameters, and what it made of it.

A card names its files by checksum and is written last, so it vouches for them: files without a card, or other than
their card says, are of a stage that was stopped, and are never taken for whole. It also carries the essentials of every
card before it, back to the raw data: a model with its card can be traced wherever it is copied to.
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
"""The fields that later cards carry on."""


@dataclass(frozen=True)
class Card:
    """One result of a stage."""

    stage: str
    parameters: Mapping[str, Any]
    code: str
    """Checksum of the stage's source files, those of the suite that it imports included."""
    inputs: Mapping[str, str]
    """Checksum of each file that was read."""
    outputs: Mapping[str, str]
    """Checksum of each file that was written, beside the card."""
    facts: Mapping[str, Any]
    """What the stage found out: counts, measures, reasons."""
    lineage: Sequence[Mapping[str, Any]] = ()
    """The essentials of all cards that this one follows from."""
    folder: Path = field(default=Path(), compare=False)

    @property
    def path(self) -> Path:
        """The first of its files, which is what it is about."""
        return self.folder / next(iter(self.outputs))

    @property
    def datum(self) -> str:
        """The name of the first file that it was made of, without its suffix: of a batch, what it is called."""
        return Path(next(iter(self.inputs))).stem

    def named_outputs(self) -> dict[str, str]:
        """Give the checksums of its files by names that differ between stages and between variants of one."""
        home = "/".join(filter(None, [self.stage, self.facts.get("variant")]))
        return {f"{home}/{name}": value for name, value in self.outputs.items()}

    def essentials(self) -> dict[str, Any]:
        """Give what later cards carry on."""
        return {name: getattr(self, name) for name in ESSENTIAL}


def checksum(path: Path) -> str:
    """Hash a file."""
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
    """Write the card of files that lie beside it already, made from the files of other cards and from raw ones."""
    inputs = {name: value for card in cards for name, value in card.named_outputs().items()}
    before = [entry for card in cards for entry in (*card.lineage, card.essentials())]
    lineage = {json.dumps(entry, sort_keys=True): entry for entry in before}  # what several cards share, once
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
    """Read a card and compare its files with it.

    Raises ValueError, naming the file, where it is no card or one of its files is missing or not what it says.
    """
    content = read_json(path)
    if not is_card(content):
        raise ValueError(f"{path} is no card of a stage")
    card = Card(**content, folder=path.parent)
    again = f"{card.stage} again; under the pipeline, delete {path} for that"
    for name, expected in card.outputs.items():
        file = card.folder / name
        if not file.is_file():
            raise ValueError(f"{file} is missing, but its card {path.name} is there: run {again}")
        if checksum(file) != expected:
            raise ValueError(f"{file} does not match its card {path.name}: run {again}")
    return card


def is_card(content: Any) -> bool:
    """Tell whether JSON has the fields of a card."""
    return isinstance(content, dict) and content.keys() == {*ESSENTIAL, "facts", "lineage"}
