"""A text as words in lines: no word has neighbours beyond its line.

Dimensions: N tokens.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.data.analogies import draw_lines
from common.data.corpora import load_corpus
from common.data.source import DataCard, sha256_of_lines
from common.data.text import UNKNOWN, Vocabulary

LINE_ENDS = ("\n", "<eos>")
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
    path: Path | None = None,
    minimum_count: int = 1,
    limit: int | None = None,
) -> Text:
    """Load a text by name, or a UTF-8 file; the limit counts planted sentences, and words of the others."""
    if path is None and data == "planted":
        lines = draw_lines()
        sha256, held_out = sha256_of_lines(lines), round(HELD_OUT * len(lines))
        parts = [lines[2 * held_out :][:limit], lines[:held_out][:limit], lines[held_out : 2 * held_out][:limit]]
        vocabulary = Vocabulary.build(
            (word for line in parts[0] for word in line.split()),
            minimum_count=minimum_count,
            reserved=(UNKNOWN,),
        )
        rows = [vocabulary.encode(word for line in part for word in [*line.split(), "\n"]) for part in parts]
        marks = [torch.cat([torch.full((len(line.split()) + 1,), n) for n, line in enumerate(part)]) for part in parts]
        sizes = "{:,} train, {:,} valid, {:,} test sentences".format(*map(len, parts))
        card = DataCard("planted", True, sha256, f"{sizes}, {len(vocabulary) - 1} words, embedded, drawn here")
        cut = [_known(row, mark, vocabulary) for row, mark in zip(rows, marks, strict=True)]
        return Text(card, vocabulary, *cut)
    name, text = ("auto" if data == "planted" else data), (None if path is None else str(path))
    corpus = load_corpus(name, level="word", text=text, limit=limit, minimum_count=minimum_count)
    ends = [corpus.vocabulary.index[end] for end in LINE_ENDS if end in corpus.vocabulary]
    parts = []
    for part in (corpus.train, corpus.valid, corpus.test):
        is_end = torch.isin(part.tokens, torch.tensor(ends, dtype=torch.int64))
        parts.append(_known(part.tokens, is_end.cumsum(0), corpus.vocabulary))
    return Text(corpus.card, corpus.vocabulary, *parts)


def _known(tokens: Tensor, lines: Tensor, vocabulary: Vocabulary) -> Part:
    """Leave out what is no word: the unknown, and ends of lines."""
    none = [vocabulary.index[name] for name in (UNKNOWN, *LINE_ENDS) if name in vocabulary]
    word = ~torch.isin(tokens, torch.tensor(none, dtype=torch.int64))
    return Part(tokens[word], lines[word])
