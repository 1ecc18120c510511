"""BLEU: how many n-grams of the translations occur in reference translations (Papineni et al. 2002).

    BLEU = BP exp(mean over n = 1 ... 4 of log p_n)
    p_n  = matched n-grams / n-grams of the outputs, both summed over the corpus
    BP   = min(1, exp(1 - r / c)), the brevity penalty

An n-gram of an output matches at most as often as it occurs in one of the references of its source. c is the length of
the outputs and r that of the references, for each output the one closest in length (the shorter of two equally close).
There is no smoothing: without a single matching 4-gram BLEU is 0.
"""

import math
from collections import Counter
from collections.abc import Sequence

Tokens = Sequence[str]


def ngrams(tokens: Tokens, order: int) -> Counter[tuple[str, ...]]:
    """Count the n-grams of a text."""
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def matches(output: Tokens, references: Sequence[Tokens], order: int) -> tuple[int, int]:
    """Count the n-grams of an output that occur in its references, and all of them (modified n-gram precision)."""
    counts, limits = ngrams(output, order), Counter[tuple[str, ...]]()
    for reference in references:
        limits |= ngrams(reference, order)  # the maximum over the references
    return (counts & limits).total(), counts.total()


def bleu(outputs: Sequence[Tokens], references: Sequence[Sequence[Tokens]], max_order: int = 4) -> float:
    """Compute the BLEU of a corpus, between 0 and 1: one or more references for each output."""
    logs = 0.0
    for order in range(1, max_order + 1):
        pairs = [matches(output, its, order) for output, its in zip(outputs, references, strict=True)]
        matched, total = (sum(column) for column in zip(*pairs, strict=True))
        if matched == 0:
            return 0.0
        logs += math.log(matched / total) / max_order
    c = sum(map(len, outputs))
    r = sum(
        min((abs(len(reference) - len(output)), len(reference)) for reference in its)[1]
        for output, its in zip(outputs, references, strict=True)
    )
    return min(1.0, math.exp(1 - r / c)) * math.exp(logs)
