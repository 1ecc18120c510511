"""The n-gram baseline: interpolated Kneser-Ney smoothing.

The estimate of P(v | context) discounts every count by D and gives the freed probability to the next shorter context
(Kneser & Ney 1995; interpolated as in Chen & Goodman 1999):

    P(v | u w) = max(count(u w v) - D, 0) / count(u w .) + D N(u w .) / count(u w .) P(v | w)

N(u w .) is the number of different tokens after `u w`. The lower orders use continuation counts: not how often v
follows w, but after how many different u it does. `Francisco` is frequent, but it follows one word only. The lowest
order is interpolated with the uniform distribution 1 / V. The discount of each order is n1 / (n1 + 2 n2), with n1 and
n2 the numbers of n-grams that occur once and twice.

Dimensions: N tokens, V vocabulary size.
"""

from collections import Counter, defaultdict
from math import log

Context = tuple[int, ...]


class KneserNey:
    """An interpolated Kneser-Ney model; its context is the last order - 1 tokens."""

    def __init__(self, tokens: list[int], vocabulary_size: int, order: int = 2) -> None:
        self.vocabulary_size, self.order = vocabulary_size, order
        ngrams: Counter[Context] = Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
        self.levels: list[tuple[dict[Context, dict[int, int]], dict[Context, int], float]] = []
        for _ in range(order):
            successors: dict[Context, dict[int, int]] = defaultdict(dict)
            for ngram, count in ngrams.items():
                successors[ngram[:-1]][ngram[-1]] = count
            totals = {context: sum(counts.values()) for context, counts in successors.items()}
            frequencies = Counter(ngrams.values())
            once, twice = frequencies[1], frequencies[2]
            self.levels.append((dict(successors), totals, once / (once + 2 * twice) if once else 0.5))
            ngrams = Counter(ngram[1:] for ngram in ngrams)  # continuation counts: each different u counts once

    def probability(self, token: int, context: Context) -> float:
        """P(token | context); only the last order - 1 tokens of the context matter"""
        p = 1 / self.vocabulary_size
        for level in reversed(range(self.order)):
            successors, totals, discount = self.levels[level]
            suffix = context[len(context) - (self.order - 1 - level) :]
            total = totals.get(suffix)
            if total is not None:
                counts = successors[suffix]
                p = (max(counts.get(token, 0) - discount, 0) + discount * len(counts) * p) / total
        return p

    def loss(self, tokens: list[int]) -> float:
        """Mean cross-entropy in nats of every token but the first, given the tokens before it"""
        length = self.order - 1
        return -sum(
            log(self.probability(token, tuple(tokens[max(0, place - length) : place])))
            for place, token in enumerate(tokens[1:], start=1)
        ) / (len(tokens) - 1)
