"""Solution: count with the counts of the words.

A merged pair cannot overlap with the next one: after a replacement, continue behind it. ("a", "a", "a") becomes ("aa",
"a").
"""

from collections import Counter
from itertools import pairwise

Words = dict[tuple[str, ...], int]


def merge(words: Words) -> Words:
    """Words with their counts -> the same words after one merge, in the same order"""
    pairs: Counter[tuple[str, str]] = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            pairs[pair] += count
    if not pairs:
        return dict(words)
    best = min(pairs, key=lambda pair: (-pairs[pair], pair))
    merged: Words = {}
    for word, count in words.items():
        symbols, place = [], 0
        while place < len(word):
            if word[place : place + 2] == best:
                symbols.append("".join(best))
                place += 2
            else:
                symbols.append(word[place])
                place += 1
        merged[tuple(symbols)] = count
    return merged
