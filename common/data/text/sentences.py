"""Short sentences and whether they praise: the Stanford Sentiment Treebank, and sentences whose rule is known.

The embedded ones are drawn from a small grammar, in four kinds:

    plain      the acting was superb and the plot was clever      what its words say
    negated    the plot was never dull                            a negation turns the next adjective around
    contrast   the acting was dull but the plot was clever        the part after `but` decides
    concession although the plot was clever the acting was dull   the part after `although` does not

In a contrast and in a concession the two parts disagree, and changing places they make a sentence of the same words, as
likely, with the other label: whoever sees words without their order is right on half of them, however clever. Six
adjectives are never negated in the training split; `unfamiliar` sentences, in the others, negate them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.data import archives, published
from common.data.source import DataCard, DataUnavailable, data_dir, fetch, sha256_of_lines

SEED = 20_261_121
TRAIN, VALID, TEST = 2_000, 1_000, 4_000
KINDS = ("plain", "negated", "contrast", "concession", "unfamiliar")
CLASS_NAMES = ("blames", "praises")

TOPICS = (
    *("acting", "plot", "music", "ending", "dialogue", "camera work", "story", "cast", "script", "opening"),
    *("soundtrack", "villain", "hero", "pacing", "humour", "lighting"),
)
GOOD = (
    *("clever", "superb", "moving", "funny", "fresh", "brilliant", "charming", "gripping", "tender", "honest"),
    *("elegant", "lively"),
)
BAD = (
    *("dull", "clumsy", "tedious", "shallow", "stale", "awful", "bland", "silly", "cold", "hollow"),
    *("confusing", "lazy"),
)
UNFAMILIAR = (*GOOD[-3:], *BAD[-3:])
"""Adjectives that no sentence of the training split negates."""
NEGATIONS = ("not", "never", "hardly", "anything but", "far from", "not at all")
DEGREES = ("", "", "", "very ", "quite ", "really ", "rather ")
OPENINGS = ("", "", "", "i thought ", "we agreed that ", "for me ", "this time ")

SST_MIRRORS = ["https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"]
SST_MD5 = "9f81648d4199384278b86e315dac217c"
SST_LIMIT = 1 << 26
"""Bytes that a file of the archive may unpack to: the largest has 3.8 million."""
SST_FILES = ("train.tsv", "dev.tsv")
SST_HEADER = "sentence\tlabel"
SST_VALID = 0.05
"""Share of train.tsv that is held out to validate; dev.tsv is the test, since the published test has no labels."""
SPLIT_SEED = 0


@dataclass(frozen=True)
class Sentences:
    """Sentences, whether each praises (1) or not (0), and of what kind it is."""

    texts: list[str]
    labels: list[int]
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, part: slice) -> "Sentences":
        return Sentences(self.texts[part], self.labels[part], self.kinds[part])


@dataclass(frozen=True)
class SentenceSet:
    """A data set with its three splits. Choose on `valid`; read `test` once, last."""

    card: DataCard
    train: Sentences
    valid: Sentences
    test: Sentences


def load_sentences(name: Literal["auto", "sst-2", "grammar"], *, limit: int | None = None) -> SentenceSet:
    """Load a data set by name; `auto` takes SST-2, or the grammar's sentences where that cannot be had.

    Raises DataUnavailable where SST-2 is named and neither on disk nor to be downloaded, ValueError, naming file and
    line, where a file is not what it should be.
    """
    note = ""
    if name != "grammar":
        try:
            return _set("sst-2", _read_sst(data_dir() / "SST-2"), f"from {data_dir() / 'SST-2'}", limit)
        except DataUnavailable:
            if name == "sst-2":
                raise
            note = f"; SST-2 is not in {data_dir()} and cannot be downloaded"
    return _set("grammar", draw_splits(), f"embedded, drawn here{note}", limit)


def _set(name: str, splits: Sequence[Sentences], source: str, limit: int | None) -> SentenceSet:
    lines = (f"{text}\t{label}" for split in splits for text, label in zip(split.texts, split.labels, strict=True))
    sha256 = sha256_of_lines(lines)
    train, valid, test = (split[:limit] for split in splits)
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test"
    description = f"{sizes}, {source}"
    if name == "grammar":
        return SentenceSet(DataCard(name, True, sha256, description), train, valid, test)
    counts = {
        "train sentences": len(splits[0]) + len(splits[1]),
        "positive train sentences": sum(splits[0].labels) + sum(splits[1].labels),
        "dev sentences": len(splits[2]),
    }
    return SentenceSet(published.card(name, sha256, description, counts), train, valid, test)


# The grammar.


def draw_splits() -> list[Sentences]:
    """Draw the three splits, the same on every machine; no sentence is in two of them, or twice in one."""
    rng = random.Random(SEED)
    seen: set[str] = set()
    return [
        _draw(rng, TRAIN, KINDS[:-1], seen),
        _draw(rng, VALID, KINDS, seen),
        _draw(rng, TEST, KINDS, seen),
    ]  # fmt: skip


def _draw(rng: random.Random, count: int, kinds: Sequence[str], seen: set[str]) -> Sentences:
    """Draw a number of new sentences, equally many of each kind."""
    drawn: list[tuple[str, int, str]] = []
    while len(drawn) < count:
        kind = kinds[len(drawn) % len(kinds)]
        text, label = sentence(kind, rng)
        if text not in seen:
            seen.add(text)
            drawn.append((text, label, kind))
    rng.shuffle(drawn)
    texts, labels, of_kinds = zip(*drawn, strict=True)
    return Sentences(list(texts), list(labels), list(of_kinds))


def sentence(kind: str, rng: random.Random) -> tuple[str, int]:
    """Draw a sentence of a kind, and whether it praises."""
    first, second = rng.sample(TOPICS, 2)
    label = rng.randrange(2)
    opening = rng.choice(OPENINGS)
    if kind == "plain":
        one = f"the {first} was {_opinion(label, rng)}"
        return opening + (f"{one} and the {second} was {_opinion(label, rng)}" if rng.random() < 0.5 else one), label
    if kind in ("negated", "unfamiliar"):
        turned = _opinion(label, rng, how=kind)
        one = f"the {first} was {turned}"
        return opening + (f"{one} and the {second} was {_opinion(label, rng)}" if rng.random() < 0.5 else one), label
    hows = [rng.choice(("plain", "negated")) for _ in range(2)]
    other = f"the {first} was {_opinion(1 - label, rng, how=hows[0])}"
    deciding = f"the {second} was {_opinion(label, rng, how=hows[1])}"
    if kind == "contrast":
        return f"{opening}{other} but {deciding}", label
    if rng.random() < 0.5:
        return f"{opening}although {other} {deciding}", label
    return f"{opening}{deciding} although {other}", label


def _opinion(label: int, rng: random.Random, how: str = "plain") -> str:
    """Say that something is good (1) or bad (0): as it is, or by denying the contrary."""
    if how == "plain":
        return rng.choice(DEGREES) + rng.choice(GOOD if label else BAD)
    contrary = [word for word in (BAD if label else GOOD) if (word in UNFAMILIAR) == (how == "unfamiliar")]
    return f"{rng.choice(NEGATIONS)} {rng.choice(contrary)}"


def ceiling(kinds: Sequence[str]) -> float:
    """Give the best expected accuracy of a classifier that sees the words of the sentences but not their order."""
    return sum(0.5 if kind in ("contrast", "concession") else 1.0 for kind in kinds) / len(kinds)


# SST-2 (Socher et al. 2013), in the layout of the GLUE benchmark.


def _read_sst(folder: Path) -> list[Sentences]:
    missing = [name for name in SST_FILES if not (folder / name).exists()]
    if missing:
        _fetch_sst(folder, missing)
    train, test = (read_tsv(folder / name) for name in SST_FILES)
    order = list(range(len(train)))
    random.Random(SPLIT_SEED).shuffle(order)
    held_out = round(SST_VALID * len(order))
    if held_out == 0:
        raise ValueError(f"{folder / 'train.tsv'} holds only {len(train)} sentences")
    parts = [
        Sentences([train.texts[n] for n in part], [train.labels[n] for n in part], [train.kinds[n] for n in part])
        for part in (order[held_out:], order[:held_out])
    ]
    return [*parts, test]


def read_tsv(path: Path) -> Sentences:
    """Read sentences and their labels, 0 or 1, from tab-separated lines under the header `sentence<TAB>label`.

    Raises ValueError, naming file and line, for anything else.
    """
    try:
        first, *lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
    if first.strip().lower() != SST_HEADER:
        raise ValueError(f"{path} starts with {first[:40]!r}: its first line must be 'sentence', a tab and 'label'")
    texts, labels = [], []
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        text, *rest = line.split("\t")
        if not text.strip() or rest not in (["0"], ["1"]):
            raise ValueError(f"{path} line {number} is {line[:60]!r}: a line is a sentence, a tab, and 0 or 1")
        texts.append(text.strip().lower())
        labels.append(int(rest[0]))
    if not texts:
        raise ValueError(f"{path} holds no sentences")
    return Sentences(texts, labels, ["all"] * len(texts))


def _fetch_sst(folder: Path, names: list[str]) -> None:
    archive = data_dir() / "SST-2.zip"
    try:
        if not archive.exists():
            fetch(SST_MIRRORS, archive, SST_MD5)
    except DataUnavailable as error:
        problem = f"{', '.join(str(folder / name) for name in names)}: not there, and cannot be downloaded ({error})"
        if len(names) < len(SST_FILES):  # a broken set, not an absent one: nothing else may run in its place
            raise ValueError(problem) from error
        raise DataUnavailable(f"{problem}: put them there, or take the embedded sentences: --data grammar") from error
    archives.unpack(archive, folder, names, limit=SST_LIMIT)
