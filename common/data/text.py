"""Text as numbers: vocabularies of characters or words.

Dimensions: V symbols of the vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.config import require
from common.files import read_json, write_json

UNKNOWN = "<unknown>"
"""What a token becomes that the vocabulary does not have."""


@dataclass(frozen=True)
class Vocabulary:
    """The symbols that a model knows, each with its number: its place in the tuple."""

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.index) < len(self.symbols):
            twice = next(symbol for symbol, count in Counter(self.symbols).items() if count > 1)
            raise ValueError(f"a vocabulary has each symbol once, {twice!r} is there twice")

    @classmethod
    def build(
        cls,
        tokens: Iterable[str],
        minimum_count: int = 1,
        maximum_size: int | None = None,
        reserved: Sequence[str] = (UNKNOWN,),
    ) -> "Vocabulary":
        """Take the reserved symbols, then the tokens from the most frequent to the rarest, equally frequent ones in
        the order of their code points; none that is rarer than the minimum count, and no more than the maximum in all.
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
        """Number of the symbol for unknown tokens, or None where there is no such symbol."""
        return self.index.get(UNKNOWN)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, token: str) -> bool:
        return token in self.index

    def encode(self, tokens: Iterable[str]) -> Tensor:
        """N tokens -> (N,) int64 numbers

        Raises ValueError, naming the token, for one that is unknown where there is no symbol for unknown ones.
        """
        tokens = list(tokens)
        unknown = self.unknown
        numbers = [self.index.get(token, unknown) for token in tokens]
        if None in numbers:
            raise ValueError(f"the vocabulary has no {tokens[numbers.index(None)]!r}")
        return torch.tensor(numbers, dtype=torch.int64)

    def decode(self, numbers: Tensor | Iterable[int]) -> list[str]:
        """(N,) numbers -> N symbols

        Raises ValueError, naming the number, for one that is no symbol's.
        """
        numbers = numbers.tolist() if isinstance(numbers, Tensor) else list(numbers)
        for number in numbers:
            require(0 <= number < len(self), f"the vocabulary's numbers are 0 to {len(self) - 1}", number)
        return [self.symbols[number] for number in numbers]

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON holds."""
        return {"symbols": list(self.symbols)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Vocabulary":
        """Take what `to_dict` gave.

        Raises ValueError where it is something else.
        """
        symbols = record.get("symbols") if isinstance(record, dict) else None
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise ValueError("a vocabulary is written as {'symbols': [...]}, a list of texts")
        return cls(tuple(symbols))

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary that was saved.

        Raises FileNotFoundError where there is none, ValueError, naming the file, where it is broken.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: has this run finished?")
        try:
            return cls.from_dict(read_json(path))
        except ValueError as error:
            raise ValueError(f"{path} holds no vocabulary: {error}") from error
