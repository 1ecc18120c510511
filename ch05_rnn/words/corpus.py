"""A text as words in lines: no word has neighbours beyond its line.

Dimensions: N tokens.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.data.source import DataCard, sha256_of_lines
from common.data.text.analogies import draw_lines
from common.data.text.corpora import load_corpus
from common.data.text.vocabulary import UNKNOWN, Vocabulary

HELD_OUT = 0.05
"""Share of the planted sentences that validation has to itself, and as many the test."""


@dataclass(frozen=True)
class Part:
    """A part of the text."""

    tokens: Tensor
    """(N,) int64"""
    lines: Tensor
    """(N,) the line in which each stands"""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Text:
    """A text as words in three parts. Choose on `valid`; read `test` once, last."""

    card: DataCard
    vocabulary: Vocabulary
    train: Part
    valid: Part
    test: Part


def load_text(
    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"],
    *,
    text: str | None = None,
    minimum_count: int = 1,
    limit: int | None = None,
) -> Text:
    """Load a text by name, or a UTF-8 file; the limit counts planted sentences, and words of the others."""
    if text is None and data == "planted":
        return _planted(minimum_count, limit)
    name = "auto" if data == "planted" else data  # of no account where there is a file
    corpus = load_corpus(name, level="word", text=text, limit=limit, minimum_count=minimum_count)
    parts = [_without_marks(part.tokens, corpus.vocabulary) for part in (corpus.train, corpus.valid, corpus.test)]
    return Text(corpus.card, corpus.vocabulary, *parts)


def _planted(minimum_count: int, limit: int | None) -> Text:
    lines = draw_lines()
    sha256, held_out = sha256_of_lines(lines), round(HELD_OUT * len(lines))
    parts = [lines[2 * held_out :][:limit], lines[:held_out][:limit], lines[held_out : 2 * held_out][:limit]]
    vocabulary = Vocabulary.build(
        (word for line in parts[0] for word in line.split()), minimum_count=minimum_count, reserved=()
    )
    sizes = "{:,} train, {:,} valid, {:,} test sentences".format(*map(len, parts))
    card = DataCard("planted", True, sha256, f"{sizes}, {len(vocabulary)} words, embedded, drawn here")
    return Text(card, vocabulary, *(_of_lines(part, vocabulary) for part in parts))


def _of_lines(lines: list[str], vocabulary: Vocabulary) -> Part:
    """Take the known words of sentences."""
    known = [(word, number) for number, line in enumerate(lines) for word in line.split() if word in vocabulary]
    return Part(
        vocabulary.encode(word for word, _ in known), torch.tensor([number for _, number in known], dtype=torch.int64)
    )


def _without_marks(tokens: Tensor, vocabulary: Vocabulary) -> Part:
    """Count the lines, and leave out what is no word: ends of lines, and what is unknown."""

    def numbers(*names: str) -> Tensor:
        return torch.tensor([vocabulary.index[name] for name in names if name in vocabulary], dtype=torch.int64)

    lines = torch.isin(tokens, numbers("\n")).cumsum(0)
    word = ~torch.isin(tokens, numbers(UNKNOWN, "\n"))
    return Part(tokens[word], lines[word])
