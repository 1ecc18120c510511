"""Split text into characters or words, number them with a vocabulary, and read a text or its pieces as batches.

Dimensions: N tokens, V symbols of the vocabulary, B batch (streams read in parallel), T steps (tokens of each).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import distributed
from common.config import require
from common.files import read_json, write_json

UNKNOWN = "<unknown>"
"""Symbol for tokens that are not in the vocabulary."""

WORD = re.compile(rf"{UNKNOWN}|\w+(?:[’']\w+)*|[^\w\s]|\n")
"""A word, with its apostrophes; a punctuation mark; the end of a line."""

NO_SPACE_BEFORE, NO_SPACE_AFTER = set(".,;:!?)]}’%\n"), set("([{\n")
"""Marks without a space before them, and without a space after them."""


def split_spaced(text: str) -> list[str]:
    """Split a text whose words and marks are all separated by spaces, as in WikiText, into these and ends of lines."""
    return re.findall(r"\S+|\n", text)


def split_words(text: str) -> list[str]:
    """Split a text into words, punctuation marks and ends of lines."""
    return WORD.findall(text)


def spaced(words: Iterable[str]) -> Iterator[str]:
    """Yield words with the usual space before them: a heuristic, because `split_words` drops the spaces."""
    last = "\n"
    for word in words:
        close = last in NO_SPACE_AFTER or word in NO_SPACE_BEFORE
        yield word if close else " " + word
        last = word


@dataclass(frozen=True)
class Vocabulary:
    """Symbols of a model; the number of a symbol is its index in the tuple."""

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.index) < len(self.symbols):
            twice = next(symbol for symbol, count in Counter(self.symbols).items() if count > 1)
            raise ValueError(f"the symbols of a vocabulary must be distinct, but {twice!r} occurs twice")

    @classmethod
    def build(
        cls,
        tokens: Iterable[str],
        minimum_count: int = 1,
        maximum_size: int | None = None,
        reserved: Sequence[str] = (UNKNOWN,),
    ) -> "Vocabulary":
        """Build a vocabulary from the reserved symbols, then the tokens by decreasing frequency, ties by code point.

        Tokens with fewer occurrences than `minimum_count` are omitted; `maximum_size` counts all symbols.
        """
        require(minimum_count >= 1, "a vocabulary's minimum count must be at least 1", minimum_count)
        counts = Counter(tokens)
        for symbol in reserved:
            counts.pop(symbol, None)
        known = sorted((-count, token) for token, count in counts.items() if count >= minimum_count)
        return cls((*reserved, *(token for _, token in known))[:maximum_size])

    @cached_property
    def index(self) -> dict[str, int]:
        """Number of each symbol."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    @property
    def unknown(self) -> int | None:
        """Number of the symbol for unknown tokens, or None if there is no such symbol."""
        return self.index.get(UNKNOWN)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, token: str) -> bool:
        return token in self.index

    def encode(self, tokens: Iterable[str]) -> Tensor:
        """N tokens -> (N,) int64 numbers

        Raises ValueError, naming the token, if one is unknown and there is no symbol for unknown tokens.
        """
        tokens = list(tokens)
        unknown = self.unknown
        numbers = [self.index.get(token, unknown) for token in tokens]
        if None in numbers:
            raise ValueError(f"the vocabulary does not contain {tokens[numbers.index(None)]!r}")
        return torch.tensor(numbers, dtype=torch.int64)

    def decode(self, numbers: Tensor | Iterable[int]) -> list[str]:
        """(N,) numbers -> N symbols

        Raises ValueError, naming the number, if one is out of range.
        """
        numbers = numbers.tolist() if isinstance(numbers, Tensor) else list(numbers)
        for number in numbers:
            require(0 <= number < len(self), f"the vocabulary's numbers are 0 to {len(self) - 1}", number)
        return [self.symbols[number] for number in numbers]

    def to_dict(self) -> dict[str, Any]:
        """Return the vocabulary as a dictionary for JSON."""
        return {"symbols": list(self.symbols)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Vocabulary":
        """Build a vocabulary from the dictionary of `to_dict`.

        Raises ValueError if it has another form.
        """
        symbols = record.get("symbols") if isinstance(record, dict) else None
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise ValueError("a vocabulary must have the form {'symbols': [...]}, with a list of strings")
        return cls(tuple(symbols))

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a saved vocabulary.

        Raises FileNotFoundError if the file does not exist, ValueError, naming the file, if it is not valid.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: has this run finished?")
        try:
            return cls.from_dict(read_json(path))
        except ValueError as error:
            raise ValueError(f"{path} is not a vocabulary: {error}") from error


class Streams:
    """Read a text in order, as batches for truncated backpropagation through time.

    The text is split into B streams of equal length, which are read in parallel, T tokens at a time. Each batch starts
    where the previous one ended, so a network can carry its state from one to the next. The target of every token is
    its successor. With a generator, each pass starts at a random one of the first tokens, so that the batch boundaries
    differ; without, at the first. Under torchrun each process reads its share of the streams if `shared` is true.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        batch_size: int,
        steps: int,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        shared: bool = True,
    ) -> None:
        require(len(tokens) >= 2, "a text needs at least 2 tokens", len(tokens))
        streams = min(batch_size, len(tokens) - 1)
        processes = distributed.world_size() if shared else 1
        require(streams >= processes, f"--batch-size must be at least {processes}, one stream per process", streams)
        self.streams = streams - streams % processes
        self.steps, self.generator, self.shared = steps, generator, shared
        self.tokens = tokens.to(device)
        self._slack = 0 if generator is None else min(steps - 1, (len(tokens) - 1 - streams) // 20)
        self.length = (len(tokens) - 1 - self._slack) // self.streams

    @property
    def segments(self) -> int:
        """Number of batches in which each goes on where the last one ended: all of a pass."""
        return len(self)

    def __len__(self) -> int:
        return -(-self.length // self.steps)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (T, B) tokens and their (T, B) successors; the last batch may have fewer steps."""
        first = 0
        if self.generator is not None:
            first = int(torch.randint(self._slack + 1, (), generator=self.generator))
        streams = torch.arange(self.streams, device=self.tokens.device)
        mine = distributed.shard(streams) if self.shared else streams
        inputs, targets = (
            self.tokens[start : start + self.streams * self.length].view(self.streams, -1)[mine].T.contiguous()
            for start in (first, first + 1)
        )
        yield from zip(inputs.split(self.steps), targets.split(self.steps), strict=True)


class Pieces:
    """Read pieces of a text in random order, as batches of segments for truncated backpropagation through time.

    Each pass cuts the text, from one of its first tokens on, into pieces of S segments of T tokens, and shuffles them.
    B pieces are read side by side, segment after segment: within a piece each batch goes on where the last one ended.
    Every token is asked for its successor. Pieces that do not fill the last B are left out of this pass. Under torchrun
    each process reads its share of the pieces.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        batch_size: int,
        steps: int,
        segments: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        require(len(tokens) >= 2, "a text needs at least 2 tokens", len(tokens))
        self.steps, self.generator = steps, generator
        self.tokens = tokens.to(device)
        self.length = min(segments * steps, len(tokens) - 1)
        self.segments = -(-self.length // steps)
        slack = min(self.length - 1, (len(tokens) - 1) // 20)
        self.pieces = max(1, (len(tokens) - 1 - slack) // self.length)
        self._slack = min(slack, len(tokens) - 1 - self.pieces * self.length)
        processes = distributed.world_size()
        together = min(batch_size, self.pieces)
        require(together >= processes, f"--batch-size must be at least {processes}, a piece a process", together)
        self.together = together - together % processes

    def __len__(self) -> int:
        return self.segments * (self.pieces // self.together)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (T, B) tokens and (T, B) their successors; the last segment of a piece may have fewer steps."""
        first = int(torch.randint(self._slack + 1, (), generator=self.generator))
        starts = first + self.length * torch.randperm(self.pieces, generator=self.generator)
        for chosen in starts.split(self.together)[: self.pieces // self.together]:
            places = distributed.shard(chosen) + torch.arange(self.length).unsqueeze(1)  # (S T, B)
            places = places.to(self.tokens.device)
            yield from zip(
                self.tokens[places].split(self.steps), self.tokens[places + 1].split(self.steps), strict=True
            )
