"""Sentence pairs for translation from German into English: Multi30k, or generated sentences.

Multi30k (Elliott et al. 2016), task 1: descriptions of photographs in English, and their translations into German.

    multi30k/{train,val,test_2016_flickr}.{de,en}[.gz]    one sentence per line; line n of both files is a pair
"""

from pathlib import Path
from typing import Literal

from common.data import archives, published
from common.data.source import DataUnavailable, data_dir, fetch, sha256_of_lines
from common.data.text.german import load_german
from common.data.text.pairs import Pairs, PairSet, pair_set

PairSetName = Literal["german", "multi30k"]

SPLITS = ("train", "val", "test_2016_flickr")
LANGUAGES = ("de", "en")
LIMIT = 1 << 26
"""Maximum of unpacked bytes of a file; the largest has 2.1 million."""

MIRROR = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
SHA256 = {
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
}
"""Checksums of the files in Multi30k's repository."""


def load_translations(name: PairSetName, *, limit: int | None = None) -> PairSet:
    """Load sentence pairs by name.

    Raises DataUnavailable if Multi30k is not on disk and cannot be downloaded, ValueError, naming file and line, if a
    file is not valid.
    """
    return load_german(limit=limit) if name == "german" else load_multi30k(data_dir() / "multi30k", limit=limit)


def load_multi30k(folder: Path, *, limit: int | None = None) -> PairSet:
    """Read Multi30k's three splits, German to English, after downloading the files that are missing."""
    paths = {f"{split}.{language}": _find(folder, f"{split}.{language}") for split in SPLITS for language in LANGUAGES}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        _fetch(folder, missing, complete=len(missing) == len(paths))
        paths = {name: _find(folder, name) for name in paths}
    texts = {name: read_lines(path) for name, path in paths.items() if path is not None}
    splits = []
    for split in SPLITS:
        german, english = (texts[f"{split}.{language}"] for language in LANGUAGES)
        if len(german) != len(english):
            raise ValueError(
                f"{folder} has {len(german):,} lines in {split}.de and {len(english):,} in {split}.en: "
                "line n of one must be the translation of line n of the other"
            )
        splits.append(Pairs(german, english, ["all"] * len(german)))
    found = pair_set("multi30k", splits, f"from {folder}", embedded=False, limit=limit)
    counts = {f"{split} pairs": len(pairs) for split, pairs in zip(("train", "valid", "test"), splits, strict=True)}
    sums = {name: sha256_of_lines(lines) for name, lines in texts.items()}
    card = published.card("multi30k", found.card.sha256, found.card.description, counts, sums)
    return PairSet(card, found.train, found.valid, found.test)


def _find(folder: Path, name: str) -> Path | None:
    """Return the path of a file, packed or not, or None if it does not exist."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, gzipped or not, without spaces around them.

    Raises ValueError, naming file and line, if it is not UTF-8, is broken, or has an empty line.
    """
    data = archives.read_bytes(path, limit=LIMIT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
    lines = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if "" in lines:
        raise ValueError(f"{path} line {lines.index('') + 1} is empty: a line is a sentence")
    return lines


def _fetch(folder: Path, names: list[str], *, complete: bool) -> None:
    """Download files; if that fails, say what is missing, where and why."""
    try:
        for name in names:
            fetch([f"{MIRROR}{name}.gz"], folder / f"{name}.gz", SHA256[f"{name}.gz"])
    except DataUnavailable as error:
        problem = f"{folder} lacks {', '.join(names)}, and the download failed ({error})"
        if not complete:  # a part of the set is there: that is a mistake
            raise ValueError(problem) from error
        raise DataUnavailable(
            f"multi30k is not in {folder} and cannot be downloaded ({error}): put its files there, set DATA_DIR, "
            "or take the embedded set with --data german"
        ) from error
