"""Kneser-Ney: how well a text is predicted by counting, which any network has to beat.

How often did v follow the last words? With few counts that says little, so a discount D is taken off every count and
given to the guess that looks one word less far back (Kneser & Ney 1995; interpolated as in Chen & Goodman 1999):

    P(v | u w) = max(count(u w v) - D, 0) / count(u w .) + D N(u w .) / count(u w .) P(v | w)

N(u w .) is how many different words came after `u w`. Below the longest context, what counts is not how often v came
after w, but after how many different u it did: `Francisco` is frequent, yet follows one word only. At the bottom
stands 1 / V. The discount of each order is n1 / (n1 + 2 n2), from how many n-grams came once and twice.

Dimensions: N tokens, V symbols.
"""

from collections import Counter, defaultdict
from math import log

Context = tuple[int, ...]


class KneserNey:
    """An interpolated Kneser-Ney model: of order 2 it looks one token back, of order 3 two."""

    def __init__(self, tokens: list[int], symbols: int, order: int = 2) -> None:
        self.symbols, self.order = symbols, order
        grams: Counter[Context] = Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
        self.levels: list[tuple[dict[Context, dict[int, int]], dict[Context, int], float]] = []
        for _ in range(order):
            after: dict[Context, dict[int, int]] = defaultdict(dict)
            for gram, count in grams.items():
                after[gram[:-1]][gram[-1]] = count
            totals = {context: sum(counts.values()) for context, counts in after.items()}
            frequencies = Counter(grams.values())
            once, twice = frequencies[1], frequencies[2]
            self.levels.append((dict(after), totals, once / (once + 2 * twice) if once else 0.5))
            grams = Counter(gram[1:] for gram in grams)  # each different left neighbour counts once

    def probability(self, token: int, context: Context) -> float:
        """P(token | the tokens before it, of which the last order - 1 matter)"""
        p = 1 / self.symbols
        for level in reversed(range(self.order)):
            after, totals, discount = self.levels[level]
            seen = context[len(context) - (self.order - 1 - level) :]
            total = totals.get(seen)
            if total is not None:
                counts = after[seen]
                p = (max(counts.get(token, 0) - discount, 0) + discount * len(counts) * p) / total
        return p

    def loss(self, tokens: list[int]) -> float:
        """Mean cross-entropy, in nats, of every token but the first, given those before it"""
        back = self.order - 1
        return -sum(
            log(self.probability(token, tuple(tokens[max(0, place - back) : place])))
            for place, token in enumerate(tokens[1:], start=1)
        ) / (len(tokens) - 1)
