"""Load texts for language models: Tiny Shakespeare, WikiText-2, Python's documentation (embedded) or any UTF-8 file.

Dimensions: N tokens.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.config import require
from common.data import archives, published
from common.data.source import DataCard, DataUnavailable, data_dir, fetch
from common.data.text.vocabulary import UNKNOWN, Vocabulary, split_spaced, split_words

CorpusName = Literal["tiny-shakespeare", "wikitext-2", "pydoc"]
Level = Literal["char", "word"]

SHAKESPEARE_MIRRORS = ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"]
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

WIKITEXT_MIRROR = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/"
WIKITEXT_SHA256 = {
    "train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
}
WIKITEXT_LIMIT = 1 << 26
"""Maximum of unpacked bytes of a file in the archive: six times the size of the largest."""

RARE = {"char": 1, "word": 2}
"""Default minimum count of a token in the training part. WikiText-2 already replaces rare words."""

HELD_OUT_TOPICS = 0.15
"""Largest share of the help topics in the validation and in the test part, before copied paragraphs are removed."""

Texts = tuple[str, str, str]
"""The training, validation and test part."""


@dataclass(frozen=True)
class Part:
    """A part of a text."""

    tokens: Tensor
    """(N,) int64"""
    characters_per_token: float
    """Mean number of characters per token, including spaces."""

    unknown_rate: float = 0.0
    """Share of the tokens that are not in the vocabulary."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Corpus:
    """A text as token numbers, in three parts. Choose models on `valid`; use `test` once, at the end."""

    card: DataCard
    level: Level
    vocabulary: Vocabulary
    train: Part
    valid: Part
    test: Part

    @property
    def held_out(self) -> Part:
        """Validation and test part as one text; for Tiny Shakespeare the last tenth, the usual validation set."""
        valid, test = self.valid, self.test
        characters = valid.characters_per_token * len(valid) + test.characters_per_token * len(test)
        return Part(torch.cat([valid.tokens, test.tokens]), characters / (len(valid) + len(test)))


def load_corpus(
    name: CorpusName | Literal["auto"],
    *,
    level: Level = "char",
    text: str | None = None,
    limit: int | None = None,
    minimum_count: int | None = None,
    maximum_size: int | None = None,
) -> Corpus:
    """Load a text by name, or the UTF-8 file `text`; `auto` loads Tiny Shakespeare, or `pydoc` if it is not available.

    The vocabulary is built from the training part, with a minimum count (default: `RARE`) and a maximum size. Raises
    DataUnavailable if a named text is not on disk and cannot be downloaded, ValueError if a file is not valid.
    """
    if text is not None:
        title, texts, origin = published.own_name(Path(text).name), _split(read_text(Path(text)), 0.05), f"from {text}"
    elif name != "auto":
        title, (texts, origin) = name, READERS[name]()
    else:
        try:
            title, (texts, origin) = "tiny-shakespeare", _shakespeare()
        except DataUnavailable:
            title, (texts, origin) = "pydoc", _pydoc()
            origin += f"; tiny-shakespeare is not in {data_dir()} and cannot be downloaded"
    pieces = [list(part) if level == "char" else words_of(part, title) for part in texts]
    for piece, part in zip(pieces, ("training", "validation", "test"), strict=True):
        require(len(piece) >= 2, f"{title} is too short: its {part} part needs at least 2 tokens", len(piece))
    vocabulary = Vocabulary.build(
        pieces[0][:limit],
        minimum_count=minimum_count or (1 if title == "wikitext-2" else RARE[level]),
        maximum_size=maximum_size,
    )
    require(len(vocabulary) >= 3, "the vocabulary must hold at least 2 known tokens", len(vocabulary) - 1)
    encoded = [vocabulary.encode(piece[:limit]) for piece in pieces]
    train, valid, test = (
        Part(tokens, len(part) / len(piece), float((tokens == vocabulary.unknown).float().mean()))
        for tokens, piece, part in zip(encoded, pieces, texts, strict=True)
    )
    units = {"char": "characters", "word": "words"}[level]
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test {units}, {len(vocabulary):,} symbols"
    if level == "word":
        sizes += f", {test.unknown_rate:.1%} of the test words unknown"
    sha256 = hashlib.sha256("".join(texts).encode()).hexdigest()
    card = _card(title, texts, sha256, f"{sizes}, {origin}", embedded=text is None and title == "pydoc")
    return Corpus(card, level, vocabulary, train, valid, test)


def _card(title: str, texts: Texts, sha256: str, description: str, *, embedded: bool) -> DataCard:
    """Build the data card of a text; for a published one, check whether it is complete."""
    if title == "tiny-shakespeare":
        contents = {"characters": "".join(texts)}
    elif title == "wikitext-2":
        names = ("train characters", "valid characters", "test characters")
        contents = {name: part.replace(UNKNOWN, "<unk>") for name, part in zip(names, texts, strict=True)}
    else:
        return DataCard(title, embedded, sha256, description)
    counts = {name: len(part) for name, part in contents.items()}
    sums = {name: hashlib.sha256(part.encode()).hexdigest() for name, part in contents.items()}
    return published.card(title, sha256, description, counts, sums)


def words_of(text: str, corpus: str) -> list[str]:
    """Split a text into words by the rule of a corpus: in WikiText, spaces separate all words."""
    return split_spaced(text) if corpus == "wikitext-2" else split_words(text)


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with line ends as one character, without a byte-order mark.

    Raises FileNotFoundError if it does not exist, ValueError, naming file and byte, if it is not UTF-8 or is empty.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: --text takes the path of a UTF-8 text")
    return decode_text(path.read_bytes(), path)


def decode_text(data: bytes, where: Path | str) -> str:
    """Decode UTF-8, with line ends as one character, without a byte-order mark.

    Raises ValueError, naming the file and the byte, if it is not UTF-8 or is empty.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start:,} ({error.reason}); "
            "save it as UTF-8"
        ) from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    require(text != "", f"{where} must contain text", "an empty file")
    return text


def _split(text: str, held_out: float) -> Texts:
    """Split a text into a training part and two held-out parts at its end."""
    size = int(len(text) * held_out)
    middle, last = len(text) - 2 * size, len(text) - size
    return text[:middle], text[middle:last], text[last:]


def _shakespeare() -> tuple[Texts, str]:
    """Read Tiny Shakespeare (Karpathy 2015): 1.1 million characters of Shakespeare's plays."""
    path = data_dir() / "tinyshakespeare" / "input.txt"
    if not path.exists():
        _fetch_or_explain("tiny-shakespeare", SHAKESPEARE_MIRRORS, path, SHAKESPEARE_SHA256)
    return _split(read_text(path), 0.05), f"from {path.parent}"


def _wikitext() -> tuple[Texts, str]:
    """Read WikiText-2 (Merity et al. 2017) in its published parts: two million words of selected Wikipedia articles."""
    folder, archive = data_dir() / "wikitext-2", data_dir() / "wikitext-2.zip"
    missing = [name for name in WIKITEXT_SHA256 if not (folder / name).exists()]
    if missing and archive.exists():
        parts, origin = _unzip(archive), f"from {archive}"
    else:
        for name in missing:
            _fetch_or_explain("wikitext-2", [WIKITEXT_MIRROR + name], folder / name, WIKITEXT_SHA256[name])
        parts, origin = [read_text(folder / name) for name in WIKITEXT_SHA256], f"from {folder}"
    train, valid, test = (part.replace("<unk>", UNKNOWN) for part in parts)
    return (train, valid, test), origin


def _unzip(archive: Path) -> list[str]:
    """Read the three parts from a zip archive, in any folder in it."""
    found = archives.read_members(archive, "wikitext-2", list(WIKITEXT_SHA256), limit=WIKITEXT_LIMIT)
    return [decode_text(data, f"{name} in {archive}") for name, data in found.items()]


def _pydoc() -> tuple[Texts, str]:
    """Read the documentation that Python contains for its `help()`, split by topic.

    Some paragraphs occur in several topics. A repeated paragraph is kept once. A held-out paragraph that shares twelve
    consecutive words with an earlier part is removed (as for GPT-3 with 13-grams, Brown et al. 2020), because a model
    could have memorised it.
    """
    from pydoc_data.topics import topics

    size = HELD_OUT_TOPICS * sum(map(len, topics.values()))
    names: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for name in sorted(topics, key=lambda name: hashlib.sha256(name.encode()).digest()):  # a fixed random order
        free = (
            part for part in ("test", "valid") if sum(len(topics[n]) for n in names[part]) + len(topics[name]) <= size
        )
        names[next(free, "train")].append(name)
    texts, kept, earlier = [], set[str](), set[tuple[str, ...]]()
    for part in names.values():
        paragraphs = []
        for paragraph in "\n\n".join(topics[name].strip("\n") for name in sorted(part)).split("\n\n"):
            paragraph = paragraph.strip("\n")
            if paragraph not in kept and earlier.isdisjoint(word_ngrams(paragraph)):
                paragraphs.append(paragraph)
                kept.add(paragraph)
        texts.append("\n\n".join(paragraphs))
        earlier.update(word_ngrams(texts[-1]))
    train, valid, test = texts
    return (train, valid, test), "embedded, Python's help topics"


def word_ngrams(text: str, order: int = 12) -> list[tuple[str, ...]]:
    """List the word n-grams of a text."""
    words = split_words(text)
    return list(zip(*(words[start:] for start in range(order)), strict=False))


READERS: dict[str, Callable[[], tuple[Texts, str]]] = {
    "tiny-shakespeare": _shakespeare,
    "wikitext-2": _wikitext,
    "pydoc": _pydoc,
}


def _fetch_or_explain(name: str, mirrors: list[str], path: Path, sha256: str) -> None:
    """Download one file of a text; the error says what is missing, where and why, and names the embedded text."""
    try:
        fetch(mirrors, path, sha256)
    except DataUnavailable as error:
        raise DataUnavailable(
            f"{name} is not in {path.parent} and cannot be downloaded ({error}): "
            "put its files there, set DATA_DIR, or use the embedded text with --data pydoc"
        ) from error
