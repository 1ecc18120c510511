"""Pairs of source and target texts for sequence-to-sequence models, generated or read from files.

A file has one pair per line, in the format of the Tatoeba collections (manythings.org/anki): source, tab, target. Text
after another tab is ignored.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data import published
from common.data.source import DataCard, sha256_of_lines

SPLIT_SEED = 0
"""Seed of the split of a file, which is the same in all runs."""
HELD_OUT = 0.05
"""Share of the distinct sources in the validation split, and in the test split."""
FEWEST = 20
"""Minimum number of distinct sources."""


@dataclass(frozen=True)
class Pairs:
    """Source texts and their targets."""

    sources: list[str]
    targets: list[str]
    kinds: list[str]
    """Kind of each pair, for a table of accuracies; all the same if unknown."""

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, part: slice) -> "Pairs":
        return Pairs(self.sources[part], self.targets[part], self.kinds[part])


@dataclass(frozen=True)
class PairSet:
    """Pairs in three splits. Choose models on `valid`; use `test` once, at the end."""

    card: DataCard
    train: Pairs
    valid: Pairs
    test: Pairs


def pair_set(name: str, splits: Sequence[Pairs], source: str, *, embedded: bool, limit: int | None) -> PairSet:
    """Build a set from its three splits, each cut to the limit, with its data card."""
    lines = (
        f"{one}\t{other}" for split in splits for one, other in zip(split.sources, split.targets, strict=True)
    )  # fmt: skip
    sha256 = sha256_of_lines(lines)
    train, valid, test = (split[:limit] for split in splits)
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test"
    return PairSet(DataCard(name, embedded, sha256, f"{sizes}, {source}"), train, valid, test)


def load_pairs(path: Path, *, limit: int | None = None) -> PairSet:
    """Read a file of pairs and split it by source: all translations of a text are in the same split.

    Raises FileNotFoundError if the file does not exist, ValueError, naming file and line, if it is not valid.
    """
    pairs = read_pairs(path)
    sources = sorted(set(pairs.sources))
    if len(sources) < FEWEST:
        raise ValueError(f"{path} has {len(sources)} distinct sources; at least {FEWEST} are needed to hold some out")
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
    """Read the pairs of a file: source, tab, target, and optionally a tab and more.

    Raises FileNotFoundError if the file does not exist, ValueError, naming file and line, if it is not valid.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: --pairs takes a file with source, tab and target in each line")
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
