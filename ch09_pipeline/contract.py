"""What makes a program a stage: the command line `--in PATH... --out DIR`, and one line for what goes wrong.

It is the contract of Pachyderm's containers, whose inputs lie in /pfs/<repository> and whose results go to /pfs/out. An
engine may name files (Snakemake knows which are meant) or folders that hold nothing but input (Pachyderm, Kubeflow).
No torch here: it takes longer to load than most datums take to prepare.
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
    """The flags of a stage; a mistake is one line."""

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
            help="files to read, or folders of them",
        )
        self.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")

    def error(self, message: str) -> NoReturn:
        """Raise ValueError where argparse would print its usage."""
        raise ValueError(f"{message}; try {self.prog} --help")


def run(stage: Callable[..., str], parser: StageParser) -> None:
    """Run a stage with the flags of the command line, print its one line, and exit with 2 where it cannot work."""
    try:
        flags = vars(parser.parse_args())
        missing = next((path for path in flags["inputs"] if not path.exists()), None)
        if missing is not None:
            raise FileNotFoundError(f"--in {missing}: there is no such file or folder")
        print(stage(flags.pop("inputs"), flags.pop("out"), **flags))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(USER_ERROR)


def files_of(inputs: Sequence[Path]) -> list[Path]:
    """List the files that are named, and those in folders that are; hidden ones are nobody's data."""
    found: list[Path] = []
    for path in inputs:
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        hidden = (any(part.startswith(".") for part in file.relative_to(path).parts) for file in below)
        found += [file for file, skip in zip(below, hidden, strict=True) if file.is_file() and not skip]
    return found


def cards_of(inputs: Sequence[Path], stage: str) -> list[Card]:
    """Read the cards of a stage among the inputs, in the order of their names.

    Raises ValueError where there is none, or where files are not what their card says.
    """
    cards = [card for path in _card_paths(inputs) if (card := read_card(path)).stage == stage]
    if not cards:
        raise ValueError(f"no card of the stage {stage} in {', '.join(map(str, inputs[:3]))}")
    return sorted(cards, key=lambda card: (natural(card.path.name), natural(str(card.folder))))


def card_and_raw_files(inputs: Sequence[Path], stage: str) -> tuple[Card, list[Path]]:
    """Read the first card of a stage that is whole, and list every other file that it does not vouch for.

    Files of a person come with the card, and some may look like cards, or be JSON that cannot be read: they are raw.
    Raises ValueError where no card of the stage is there, or none is whole.
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


def one(cards: Sequence[Card]) -> Card:
    """Give the only card. Raises ValueError where there are several."""
    if len(cards) > 1:
        raise ValueError(f"one card of the stage {cards[0].stage} is needed, {len(cards)} are there")
    return cards[0]


def natural(name: str) -> list[str | int]:
    """Give a sorting key under which batch-2 stands before batch-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _card_paths(inputs: Sequence[Path]) -> list[Path]:
    return [path for path in files_of(inputs) if path.suffix == ".json" and is_card(read_json(path))]
