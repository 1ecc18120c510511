"""Byte-pair encoding: learn the symbols of a text, from single bytes to whole words (Sennrich, Haddow & Birch 2016).

Learning starts with the bytes of every word and repeats the following: count all pairs of neighbouring symbols within
the words, and merge the most frequent pair into a new symbol wherever it occurs. A new text is encoded with the same
merges in the same order. Frequent words become one symbol, rare words several.

Every text consists of bytes (Radford et al. 2019), so there are no unknown symbols and decoding is exact. A word
includes the space before it.

Counting all pairs again after each merge would take hours for a large text. Only the words with the merged pair change,
so only their counts are updated, and a priority queue holds the pairs by frequency.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from common.config import require
from common.files import read_json, write_json

Symbols = tuple[int, ...]
Pair = tuple[int, int]

FIRST = 4
"""Number of the symbol of byte 0. The numbers below are reserved for padding, unknown symbols, start and end, as in the
other vocabularies of this chapter; there are no unknown symbols here."""
BYTES = 256
FEWEST = 2
"""Minimum count of a pair that is merged."""

WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s+")
"""A word or punctuation marks, with the space before it; other white space. The parts make up the whole text."""


def merge(symbols: Symbols, pair: Pair, new: int) -> Symbols:
    """Replace every occurrence of a pair of neighbours, from left to right, by a new symbol."""
    merged, place = [], 0
    while place < len(symbols):
        if symbols[place : place + 2] == pair:
            merged.append(new)
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return tuple(merged)


def bytes_of(word: str) -> Symbols:
    """Return the symbols of the bytes of a word."""
    return tuple(FIRST + byte for byte in word.encode())


@dataclass(frozen=True)
class BytePairEncoding:
    """Symbols for texts: 256 bytes, and one symbol for each merge, in the order in which the merges were learned."""

    merges: tuple[Pair, ...]

    @classmethod
    def learn(cls, texts: Iterable[str], merges: int) -> "BytePairEncoding":
        """Learn a number of merges; fewer if no pair is left that occurs twice.

        Of equally frequent pairs, the one with the smaller numbers is merged.
        """
        frequencies = Counter(word for text in texts for word in WORD.findall(text))
        words = [bytes_of(word) for word in frequencies]
        counts, places = Counter[Pair](), defaultdict[Pair, set[int]](set)
        for place, (symbols, frequency) in enumerate(zip(words, frequencies.values(), strict=True)):
            for pair in pairwise(symbols):
                counts[pair] += frequency
                places[pair].add(place)
        frequency_of = list(frequencies.values())
        queue = [(-count, pair) for pair, count in counts.items()]
        heapq.heapify(queue)
        learned: list[Pair] = []
        while queue and len(learned) < merges:
            count, pair = heapq.heappop(queue)
            if -count != counts[pair]:  # the count has changed since; the queue also has the pair with its new count
                continue
            if counts[pair] < FEWEST:
                break
            new, changed = FIRST + BYTES + len(learned), set[Pair]()
            learned.append(pair)
            for place in places.pop(pair):
                before, after = words[place], merge(words[place], pair, new)
                words[place] = after
                for each in pairwise(before):
                    counts[each] -= frequency_of[place]
                for each in pairwise(after):
                    counts[each] += frequency_of[place]
                    places[each].add(place)
                changed.update(pairwise(before), pairwise(after))
            for each in changed:
                heapq.heappush(queue, (-counts[each], each))
        return cls(tuple(learned))

    def __len__(self) -> int:
        return FIRST + BYTES + len(self.merges)

    @cached_property
    def ranks(self) -> dict[Pair, int]:
        """Place of each pair in the order of the merges."""
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def spellings(self) -> list[bytes]:
        """Bytes of each symbol; none for the reserved ones."""
        spellings = [b""] * FIRST + [bytes([byte]) for byte in range(BYTES)]
        for left, right in self.merges:
            spellings.append(spellings[left] + spellings[right])
        return spellings

    @cached_property
    def _known(self) -> dict[str, Symbols]:
        """Words that were encoded before."""
        return {}

    def encode(self, text: str) -> list[int]:
        """Convert a text to symbols."""
        symbols: list[int] = []
        for word in WORD.findall(text):
            if word not in self._known:
                self._known[word] = self.encode_word(word)
            symbols += self._known[word]
        return symbols

    def encode_word(self, word: str) -> Symbols:
        """Merge the bytes of a word.

        The pair that was learned first is merged first. A pair with a merged symbol was learned after that symbol, so
        this gives the same result as applying all merges in their order.
        """
        symbols = bytes_of(word)
        while pairs := [pair for pair in pairwise(symbols) if pair in self.ranks]:
            first = min(pairs, key=self.ranks.__getitem__)
            symbols = merge(symbols, first, FIRST + BYTES + self.ranks[first])
        return symbols

    def decode(self, symbols: Iterable[int]) -> str:
        """Convert symbols to text, without reserved symbols; bytes that are not UTF-8 become replacement characters."""
        return b"".join(self.spellings[symbol] for symbol in symbols).decode(errors="replace")

    def save(self, path: Path) -> None:
        """Write the merges as JSON."""
        write_json(path, {"merges": self.merges})

    @classmethod
    def load(cls, path: Path) -> "BytePairEncoding":
        """Read saved merges.

        Raises FileNotFoundError if the file does not exist, ValueError, naming the file, if it is not valid.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: has this run finished?")
        try:
            record = read_json(path)
            merges = tuple((int(left), int(right)) for left, right in record["merges"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} must have the form {{'merges': [[left, right], ...]}}: {error}") from error
        for rank, pair in enumerate(merges):
            known = all(FIRST <= symbol < FIRST + BYTES + rank for symbol in pair)
            require(known, f"{path}: merge {rank} must join two earlier symbols", list(pair))
        require(len(set(merges)) == len(merges), f"{path} must not have a merge twice", len(merges))
        return cls(merges)
