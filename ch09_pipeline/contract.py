"""Define the command line of a stage, `--in PATH... --out DIR`, and print errors as one line.

Pachyderm's containers have the same contract: inputs in /pfs/<repository>, results in /pfs/out. Snakemake passes
files; Pachyderm and Kubeflow pass folders that contain only inputs. This file does not import torch, which takes longer
to load than most batches take to prepare.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ch09_pipeline.card import Card, is_card, read_card
from common.files import read_json

USER_ERROR, INTERRUPTED = 2, 130


class StageParser(argparse.ArgumentParser):
    """Parse the flags of a stage; errors are one line."""

    def __init__(self, module: str, about: str | None) -> None:
        first_line = (about or "").partition("\n")[0]
        super().__init__(prog=f"python -m {module}", description=first_line, allow_abbrev=False)
        self.add_argument(
            "--in",
            dest="inputs",
            nargs="+",
            type=Path,
            required=True,
            metavar="PATH",
            help="input files, or folders of input files",
        )
        self.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")

    def error(self, message: str) -> NoReturn:
        """Raise ValueError instead of printing the usage."""
        raise ValueError(f"{message}; try {self.prog} --help")


def run(stage: Callable[..., str], parser: StageParser) -> None:
    """Run a stage with the flags of the command line and print its result; print errors as one line and exit with 2."""
    try:
        flags = vars(parser.parse_args())
        missing = next((path for path in flags["inputs"] if not path.exists()), None)
        if missing is not None:
            raise FileNotFoundError(f"--in {missing}: no such file or folder")
        print(stage(flags.pop("inputs"), flags.pop("out"), **flags))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(USER_ERROR)


def files_of(inputs: Sequence[Path]) -> list[Path]:
    """List the given files and the files in the given folders, without hidden ones."""
    found: list[Path] = []
    for path in inputs:
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        hidden = (any(part.startswith(".") for part in file.relative_to(path).parts) for file in below)
        found += [file for file, skip in zip(below, hidden, strict=True) if file.is_file() and not skip]
    return found


def cards_of(inputs: Sequence[Path], stage: str) -> list[Card]:
    """Read the cards of a stage among the inputs, ordered by name.

    Raises ValueError if there are none, or if files do not match their card.
    """
    cards = [card for path in _card_paths(inputs) if (card := read_card(path)).stage == stage]
    if not cards:
        raise ValueError(f"no card of the stage {stage} in {', '.join(map(str, inputs[:3]))}")
    return sorted(cards, key=lambda card: (natural_key(card.path.name), natural_key(str(card.folder))))


def card_and_raw_files(inputs: Sequence[Path], stage: str) -> tuple[Card, list[Path]]:
    """Read the first valid card of a stage, and list all files that are not its outputs.

    The inputs include the user's files, which may look like cards or be invalid JSON; they are raw files all the same.
    Raises ValueError if there is no valid card of the stage.
    """
    files, broken = files_of(inputs), None
    for path in files:
        if path.suffix != ".json":
            continue
        try:
            if not is_card(content := read_json(path)) or content["stage"] != stage:
                continue
            card = read_card(path)
        except (ValueError, OSError, RecursionError) as error:
            broken = broken or error
            continue
        return card, [other for other in files if other not in (path, *(card.folder / name for name in card.outputs))]
    raise ValueError(
        f"no card of the stage {stage} in {', '.join(map(str, inputs[:3]))}{f' ({broken})' if broken else ''}"
    )


def only_card(cards: Sequence[Card]) -> Card:
    """Return the only card; raises ValueError if there are several."""
    if len(cards) > 1:
        raise ValueError(f"exactly one card of the stage {cards[0].stage} is needed, got {len(cards)}")
    return cards[0]


def natural_key(name: str) -> list[str | int]:
    """Return a sorting key with which batch-2 precedes batch-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _card_paths(inputs: Sequence[Path]) -> list[Path]:
    return [path for path in files_of(inputs) if path.suffix == ".json" and is_card(read_json(path))]
