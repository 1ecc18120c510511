"""Check of exercise 7: one merge of byte-pair encoding."""

from collections import Counter
from itertools import pairwise
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Words = dict[tuple[str, ...], int]


def merge_by_text(words: Words) -> Words:
    """Expected words: count and replace in texts with marks between the symbols."""
    return merged(words, weighted=True)


def merged(words: Words, *, weighted: bool = True, last: bool = False, everywhere: bool = True) -> Words:
    """One merge, with options for typical mistakes."""
    pairs = Counter(pair for word, count in words.items() for pair in pairwise(word) for _ in range(count**weighted))
    if not pairs:
        return dict(words)
    ordered = sorted(pairs, reverse=last)
    left, right = max(ordered, key=lambda pair: pairs[pair])
    result = {}
    for word, count in words.items():
        symbols: list[str] = []
        replaced = 0
        for symbol in word:
            # the mark tells a merged symbol from an equal one that was there before
            if symbols and symbols[-1] == left and symbol == right and (everywhere or not replaced):
                symbols[-1] = f"{left}{right}\0"
                replaced += 1
            else:
                symbols.append(symbol)
        result[tuple(symbol.rstrip("\0") for symbol in symbols)] = count
    return result


def sample_words(generator: Random, size: int) -> Arguments:
    """Random words of the letters a, b and c."""
    words = {}
    for _ in range(min(size, 3)):
        word = tuple(generator.choice("abc") for _ in range(generator.randint(1, size + 1)))
        words[word] = generator.randint(1, 3)
    return {"words": words}


BYTE_PAIRS = Exercise(
    file="ex7_byte_pairs",
    function="merge",
    reference=merge_by_text,
    cases=(
        Case({"words": {("a",): 1}}, "no pairs"),
        Case({"words": {("a", "b"): 1}}, "one pair"),
        Case({"words": {("a", "b", "a", "b"): 1}}, "the pair a b occurs twice, b a once"),
        Case({"words": {("a", "c", "b"): 1}}, "of equally frequent pairs the first in alphabetical order is merged"),
        Case({"words": {("b", "a"): 1, ("a", "b"): 1}}, "of equally frequent pairs the first in alphabetical order"),
        Case({"words": {("a", "b"): 1, ("b", "c"): 3}}, "a pair counts as often as its word occurs"),
        Case({"words": {("a", "a", "a"): 1}}, "from left to right: the second a is used up"),
        Case({"words": {("x", "ab"): 2, ("x", "a", "b"): 1}}, "x ab is a pair; x and a are another"),
    ),
    sample=sample_words,
    hint=(
        "`collections.Counter` counts, and `min` with the key (-count, pair) chooses. Replace with an index that "
        "advances by 2 after a match, else by 1."
    ),
    mistakes={
        "each pair counts as often as its word occurs": lambda words: merged(words, weighted=False),
        "of equally frequent pairs the first in alphabetical order is chosen": lambda words: merged(words, last=True),
        "the pair is replaced wherever it occurs, not only once in each word": lambda words: merged(
            words, everywhere=False
        ),
    },
)
