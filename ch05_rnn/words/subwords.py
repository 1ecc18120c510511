"""Words as bags of character n-grams, which also give vectors to words that do not occur in the training text.

The n-grams of `where` with n = 3 are <wh whe her ere re>; < and > mark the beginning and the end (Bojanowski, Grave,
Joulin & Mikolov 2017, section 3.2). A vector for each different n-gram would need too much memory. A hash function
assigns them to K buckets, and the n-grams of a bucket share a vector.

Dimensions: V vocabulary size, K buckets.
"""

from collections.abc import Sequence

import torch

from ch05_rnn.words.contexts import Bags

FNV_OFFSET, FNV_PRIME = 2_166_136_261, 16_777_619


def fnv1a(data: bytes) -> int:
    """Return the 32-bit FNV-1a hash (Fowler, Noll & Vo) of bytes, as fastText computes it.

    For each byte, h = (h xor byte) * prime mod 2^32. fastText extends the sign of the byte to 32 bits, so that a byte
    above 127 also inverts the upper 24 bits of h.
    """
    h = FNV_OFFSET
    for byte in data:
        signed = byte if byte < 128 else byte | 0xFFFFFF00
        h = (h ^ signed) * FNV_PRIME & 0xFFFFFFFF
    return h


def ngrams(word: str, shortest: int, longest: int) -> list[str]:
    """Return the character n-grams of <word>, by position and length, without < and > alone."""
    marked = f"<{word}>"
    return [
        marked[start : start + size]
        for start in range(len(marked))
        for size in range(shortest, min(longest, len(marked) - start) + 1)
        if size > 1 or 0 < start < len(marked) - 1
    ]


class Subwords:
    """Rows of the input vectors of each word: rows 0 to V - 1 belong to words, the next K to buckets."""

    def __init__(self, words: Sequence[str], buckets: int, shortest: int, longest: int) -> None:
        self.words, self.buckets, self.shortest, self.longest = len(words), buckets, shortest, longest
        rows = [[number, *self.rows_of(word)] for number, word in enumerate(words)]
        self.bags = Bags(torch.tensor([row for bag in rows for row in bag]), torch.tensor([len(bag) for bag in rows]))

    @property
    def rows(self) -> int:
        """Number of input vectors."""
        return self.words + self.buckets

    def rows_of(self, word: str) -> list[int]:
        """Return the rows of the n-grams of any word; the list is empty if <word> is shorter than the n-grams."""
        return [
            self.words + fnv1a(ngram.encode()) % self.buckets for ngram in ngrams(word, self.shortest, self.longest)
        ]
