"""BLEU: how many n-grams of the translations occur in reference translations (Papineni et al. 2002).

    BLEU = BP exp(mean over n = 1 ... 4 of log p_n)
    p_n  = matched n-grams / n-grams of the outputs, both summed over the corpus
    BP   = min(1, exp(1 - r / c)), the brevity penalty

An n-gram of an output matches at most as often as it occurs in one of the references of its source. c is the length of
the outputs and r that of the references, for each output the one closest in length (the shorter of two equally close).
There is no smoothing: without a single matching 4-gram BLEU is 0.

BLEU depends on how texts are split into tokens, so results are comparable only with the same tokeniser (Post 2018).
`score` takes texts, and splits them like the WMT evaluations (13a), the default of the package sacrebleu. It computes
BLEU with sacrebleu if it is installed, otherwise by hand; both give the same number.
"""

import importlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import zip_longest

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


ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
RULES_13A = [
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),  # all marks of ASCII except apostrophe, comma, dash and full stop
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # a comma or full stop that does not follow a digit
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # or is not followed by one
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),  # a dash after a digit
]


def tokenise_13a(text: str) -> list[str]:
    """Split a text into words and marks as the script mteval-v13a of the WMT evaluations does."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in ENTITIES.items():
        text = text.replace(entity, mark)
    text = f" {text} "
    for pattern, replacement in RULES_13A:
        text = pattern.sub(replacement, text)
    return text.split()


def score(outputs: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool = False) -> float:
    """Compute the BLEU of texts, between 0 and 1: one or more references for each output."""
    if find_spec("sacrebleu") is None:
        return score_by_hand(outputs, references, lowercase=lowercase)
    metric = importlib.import_module("sacrebleu.metrics").BLEU(lowercase=lowercase, smooth_method="none")
    return metric.corpus_score(list(outputs), list(zip_longest(*references))).score / 100


def score_by_hand(outputs: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool = False) -> float:
    """Compute what `score` computes, without sacrebleu."""

    def tokens(text: str) -> list[str]:
        return tokenise_13a(text.lower() if lowercase else text)

    return bleu([tokens(output) for output in outputs], [[tokens(text) for text in its] for its in references])


def implementation() -> str:
    """Describe how `score` computes BLEU."""
    if find_spec("sacrebleu") is None:
        return "by hand, with tokeniser 13a: sacrebleu is not installed"
    return f"sacrebleu {importlib.import_module('sacrebleu').__version__}, tokeniser 13a"
