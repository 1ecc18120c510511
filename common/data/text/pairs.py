"""Pairs of texts, of which one is to be turned into the other: generated ones, and files with a pair a line.

A file has the layout of the Tatoeba collections (manythings.org/anki): source, tab, target, and whatever follows a
further tab is left aside.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data import published
from common.data.source import DataCard, sha256_of_lines

SPLIT_SEED = 0
"""Seed of the one split of a file that every run shares."""
HELD_OUT = 0.05
"""Share of the different sources that validation has to itself, and as many the test."""
FEWEST = 20
"""Different sources without which there is nothing to hold out."""


@dataclass(frozen=True)
class Pairs:
    """Texts and what each is to be turned into."""

    sources: list[str]
    targets: list[str]
    kinds: list[str]
    """What sort of pair each is, for a table of accuracies; all the same where nothing is known."""

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, part: slice) -> "Pairs":
        return Pairs(self.sources[part], self.targets[part], self.kinds[part])


@dataclass(frozen=True)
class PairSet:
    """Pairs in three splits. Choose on `valid`; read `test` once, last."""

    card: DataCard
    train: Pairs
    valid: Pairs
    test: Pairs


def pair_set(name: str, splits: Sequence[Pairs], source: str, *, embedded: bool, limit: int | None) -> PairSet:
    """Make a set of its three splits, each cut to the limit, with the card that tells which data they are."""
    lines = (
        f"{one}\t{other}" for split in splits for one, other in zip(split.sources, split.targets, strict=True)
    )  # fmt: skip
    sha256 = sha256_of_lines(lines)
    train, valid, test = (split[:limit] for split in splits)
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test"
    return PairSet(DataCard(name, embedded, sha256, f"{sizes}, {source}"), train, valid, test)


def load_pairs(path: Path, *, limit: int | None = None) -> PairSet:
    """Read a file of pairs and split it by source: a text with several translations has them all in one split.

    Raises FileNotFoundError where there is no such file, ValueError, naming file and line, for one that holds
    something else.
    """
    pairs = read_pairs(path)
    sources = sorted(set(pairs.sources))
    if len(sources) < FEWEST:
        raise ValueError(
            f"{path} holds {len(sources)} different sources; at least {FEWEST} are needed to hold some out"
        )
    random.Random(SPLIT_SEED).shuffle(sources)
    held_out = max(1, round(HELD_OUT * len(sources)))
    place = {text: 1 if number < held_out else 2 if number < 2 * held_out else 0 for number, text in enumerate(sources)}
    order = list(range(len(pairs)))
    random.Random(SPLIT_SEED).shuffle(order)  # such files are sorted by length, and --limit takes the first
    splits = [[index for index in order if place[pairs.sources[index]] == split] for split in range(3)]
    parts = [
        Pairs(*([column[index] for index in chosen] for column in (pairs.sources, pairs.targets, pairs.kinds)))
        for chosen in splits
    ]
    return pair_set(published.own_name(path.stem), parts, f"from {path}", embedded=False, limit=limit)


def read_pairs(path: Path) -> Pairs:
    """Read the pairs of a file: source, tab, target, and perhaps a tab and more.

    Raises FileNotFoundError where there is no such file, ValueError, naming file and line, for anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: --pairs takes a file with source, tab and target a line")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
    sources, targets = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        source, tab, rest = line.partition("\t")
        target = rest.partition("\t")[0]
        if not tab:
            raise ValueError(f"{path} line {number} has no tab: {line.strip()[:40]!r}; a line is source, tab, target")
        if not source.strip() or not target.strip():
            raise ValueError(f"{path} line {number} has an empty {'target' if source.strip() else 'source'}")
        sources.append(source.strip())
        targets.append(target.strip())
    if not sources:
        raise ValueError(f"{path} is empty")
    return Pairs(sources, targets, ["all"] * len(sources))
