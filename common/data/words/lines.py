"""Load a text as lower-case word tokens with line numbers, so that context windows need not cross lines.

Dimensions: N tokens, V vocabulary size.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from common.config import require
from common.data.source import DataCard, sha256_of_lines
from common.data.text.corpora import load_corpus
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.data.words.analogies import draw_lines

HELD_OUT = 0.05
"""Share of the planted sentences in the validation set, and in the test set."""


@dataclass(frozen=True)
class Part:
    """One part of a text."""

    tokens: Tensor
    """(N,) int64"""
    line_numbers: Tensor
    """(N,) line number of each token"""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Text:
    """A text in three parts. Choose models on `valid`; use `test` once, at the end."""

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
    without: Collection[str] = (),
) -> Text:
    """Load a text by name, or the UTF-8 file `text`; the limit counts planted sentences, or words of the other texts.

    Lines that contain a word of `without` are omitted from the training part. Raises DataUnavailable if a named text is
    not on disk and cannot be downloaded.
    """
    if text is None and data == "planted":
        return _planted(minimum_count, limit, set(without))
    name = "auto" if data == "planted" else data  # ignored if there is a file
    corpus = load_corpus(name, level="word", text=text, limit=limit, minimum_count=1)
    parts = [_number_lines(part.tokens, corpus.vocabulary) for part in (corpus.train, corpus.valid, corpus.test)]
    return _lower_case(corpus.card, corpus.vocabulary, parts, minimum_count, without)


def _lower_case(
    card: DataCard, cased: Vocabulary, parts: list[Part], minimum_count: int, without: Collection[str]
) -> Text:
    """Merge upper-case and lower-case forms, and keep the words with the minimum count in the training part.

    Raises ValueError if no word has the minimum count.
    """
    lower = [symbol.lower() for symbol in cased.symbols]
    words = sorted(set(lower))
    index = {word: number for number, word in enumerate(words)}
    number_of = torch.tensor([index[word] for word in lower], dtype=torch.int64)
    parts = [Part(number_of[part.tokens], part.line_numbers) for part in parts]
    train = parts[0]
    unwanted = torch.tensor([index[word] for word in without if word in index], dtype=torch.int64)
    left_out = torch.isin(train.line_numbers, train.line_numbers[torch.isin(train.tokens, unwanted)])
    parts[0] = Part(train.tokens[~left_out], train.line_numbers[~left_out])
    counts = parts[0].tokens.bincount(minlength=len(words))
    kept = [n for n in counts.argsort(descending=True, stable=True).tolist() if counts[n] >= minimum_count]
    require(len(kept) > 0, "--minimum-count leaves no word of this text, lower it", minimum_count)
    new = torch.full((len(words),), -1).scatter_(0, torch.tensor(kept), torch.arange(len(kept)))
    parts = [Part(new[part.tokens], part.line_numbers) for part in parts]
    parts = [Part(part.tokens[part.tokens >= 0], part.line_numbers[part.tokens >= 0]) for part in parts]
    card = replace(card, description=f"{card.description}; {len(kept):,} lower-case words")
    return Text(card, Vocabulary(tuple(words[n] for n in kept)), *parts)


def _planted(minimum_count: int, limit: int | None, without: set[str]) -> Text:
    sentences = draw_lines()
    sha256, held_out = sha256_of_lines(sentences), round(HELD_OUT * len(sentences))
    parts = [
        [line for line in sentences[2 * held_out :][:limit] if without.isdisjoint(line.split())],
        sentences[:held_out][:limit],
        sentences[held_out : 2 * held_out][:limit],
    ]
    vocabulary = Vocabulary.build(
        (word for sentence in parts[0] for word in sentence.split()), minimum_count=minimum_count, reserved=()
    )
    sizes = "{:,} train, {:,} valid, {:,} test sentences".format(*map(len, parts))
    card = DataCard("planted", True, sha256, f"{sizes}, {len(vocabulary)} words, embedded, generated")
    return Text(card, vocabulary, *(_encode(part, vocabulary) for part in parts))


def _encode(sentences: list[str], vocabulary: Vocabulary) -> Part:
    """Encode sentences, one per line, without words outside the vocabulary."""
    known = [
        (word, number) for number, sentence in enumerate(sentences) for word in sentence.split() if word in vocabulary
    ]
    return Part(
        vocabulary.encode(word for word, _ in known), torch.tensor([number for _, number in known], dtype=torch.int64)
    )


def _number_lines(tokens: Tensor, vocabulary: Vocabulary) -> Part:
    """Number the lines, and remove newlines and unknown words."""

    def indices(*symbols: str) -> Tensor:
        return torch.tensor([vocabulary.index[name] for name in symbols if name in vocabulary], dtype=torch.int64)

    line_numbers = torch.isin(tokens, indices("\n")).cumsum(0)
    is_word = ~torch.isin(tokens, indices(UNKNOWN, "\n"))
    return Part(tokens[is_word], line_numbers[is_word])
