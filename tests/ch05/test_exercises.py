"""Exercises of chapter 5: three typical wrong answers each, and what the reader is told."""

import math
from itertools import pairwise

import pytest
import torch

from ch05_rnn.exercises import checks
from common.exercises.check import check


def positions(queries, keys, *, first):
    return torch.arange(queries)[:, None] + first, torch.arange(keys)


def from_zero(queries, keys, context):
    t, s = positions(queries, keys, first=0)
    return (s <= t) & (s > t - context)


def without_window(queries, keys, context):
    t, s = positions(queries, keys, first=keys - queries)
    return s <= t


def additive(queries, keys, context):
    t, s = positions(queries, keys, first=keys - queries)
    return torch.zeros(queries, keys).masked_fill((s > t) | (s <= t - context), -math.inf)


def masked_after_softmax(q, k, v, mask):
    return (torch.softmax(q @ k.mT / math.sqrt(q.shape[1]), 1) * mask) @ v


def without_root(q, k, v, mask):
    return torch.softmax((q @ k.mT).masked_fill(~mask, -math.inf), 1) @ v


def inverted_mask(q, k, v, mask):
    return torch.softmax((q @ k.mT / math.sqrt(q.shape[1])).masked_fill(mask, -math.inf), 1) @ v


def rnn(h, weight, delta, *, recursion=1.0, transpose=True, da_only=False):
    da, following = torch.zeros_like(h), torch.zeros_like(h[0])
    for t in reversed(range(len(h))):
        following = (delta[t] + recursion * ((weight.mT if transpose else weight) @ following)) * (1 - h[t] ** 2)
        da[t] = following
    return da, da.mT @ h if da_only else da[1:].mT @ h[:-1]


def clip_each(gradients, c):
    return [g * min(1.0, c / float(g.norm())) if g.any() else g for g in gradients]


def enlarging(gradients, c):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g * c / norm for g in gradients]


def clip_in_place(gradients, c):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    for g in gradients:
        g.mul_(min(1.0, c / float(norm)))
    return gradients


def by_sentences(losses, mask):
    return float(((losses * mask).sum(1) / mask.sum(1)).mean().exp())


def sorted_tokens(p):
    ordered, index = p.sort(descending=True, stable=True)
    return ordered, index, ordered.cumsum(0)


def without_last(p, top_p):
    ordered, index, cumulative = sorted_tokens(p)
    kept = ordered * ((cumulative <= top_p) | (torch.arange(len(p)) == 0))
    return torch.zeros_like(p).index_copy(0, index, kept / kept.sum())


def undivided(p, top_p):
    ordered, index, cumulative = sorted_tokens(p)
    return torch.zeros_like(p).index_copy(0, index, ordered * (cumulative - ordered < top_p))


def in_sorted_order(p, top_p):
    ordered, _, cumulative = sorted_tokens(p)
    kept = ordered * (cumulative - ordered < top_p)
    return kept / kept.sum()


def merge(words, *, weight=lambda count: count, overlap=False, tie=min):
    pairs = {}
    for word, count in words.items():
        for pair in pairwise(word):
            pairs[pair] = pairs.get(pair, 0) + weight(count)
    if not pairs:
        return dict(words)
    best = tie(pair for pair in pairs if pairs[pair] == max(pairs.values()))
    result = {}
    for word, count in words.items():
        symbols, place = [], 0
        while place < len(word):
            match = word[place : place + 2] == best
            symbols.append("".join(best) if match else word[place])
            place += 2 if match and not overlap else 1
        result[tuple(symbols)] = count
    return result


def word_gradients(v, u, negatives, *, near_sign=1.0, random_sign=1.0, mean=False):
    near, random = near_sign * (torch.sigmoid(u @ v) - 1), random_sign * torch.sigmoid(negatives @ v)
    random = random / len(random) if mean else random
    return near * u + random @ negatives, near * v, random[:, None] * v


WRONG = [
    (
        checks.CAUSAL_MASK,
        from_zero,
        "for queries = 1, keys = 2, context = 2 you return [[True, False]], expected [[True,",
    ),
    (checks.CAUSAL_MASK, without_window, "the context C limits how far a query looks back"),
    (
        checks.CAUSAL_MASK,
        additive,
        "of shape (1, 1) and dtype float32, expected a tensor of shape (1, 1) and dtype bool",
    ),
    (checks.ATTENTION, masked_after_softmax, "mask = [[True, False]] you return [[1.0]], expected [[2.0]]"),
    (checks.ATTENTION, without_root, "the scores must be divided by sqrt(D)"),
    (checks.ATTENTION, inverted_mask, "you return [[nan]], expected [[4.0]]"),
    (checks.BPTT, lambda **given: rnn(**given, recursion=0.0), "the gradient through the next step is missing"),
    (checks.BPTT, lambda **given: rnn(**given, transpose=False), "so its gradient goes back through W^T"),
    (checks.BPTT, lambda **given: rnn(**given, da_only=True), "dW contains h_(t-1), and h_0 = 0"),
    (
        checks.GRADIENT_NORM,
        clip_each,
        "for gradients = [[3.0], [4.0]], c = 1.0 you return [[1.0], [1.0]], expected [[0.6]",
    ),
    (checks.GRADIENT_NORM, enlarging, "small gradients are enlarged: the factor is at most 1"),
    (checks.GRADIENT_NORM, clip_in_place, "your function changes its argument gradients in place"),
    (checks.PERPLEXITY, by_sentences, "you return 4.48169, expected 2.71828"),
    (checks.PERPLEXITY, lambda losses, mask: float((losses * mask).mean().exp()), "the padding is counted in N"),
    (checks.PERPLEXITY, lambda losses, mask: float(losses[mask].exp().mean()), "average the losses, not the"),
    (checks.TOP_P, without_last, "the token that reaches top_p belongs to the set"),
    (checks.TOP_P, undivided, "the kept probabilities must be divided by their sum"),
    (checks.TOP_P, in_sorted_order, "for p = [0.25, 0.75], top_p = 0.5 you return [1.0, 0.0], expected [0.0, 1.0]"),
    (checks.BYTE_PAIRS, lambda words: merge(words, weight=lambda count: 1), "each pair counts as often as its word"),
    (checks.BYTE_PAIRS, lambda words: merge(words, overlap=True), "you return {('ab', 'b'): 1}, expected {('ab',): 1}"),
    (checks.BYTE_PAIRS, lambda words: merge(words, tie=max), "the first in alphabetical order is chosen"),
    (checks.NEGATIVE_SAMPLING, lambda **given: word_gradients(**given, near_sign=-1.0), "for dL/dv you return [0.5],"),
    (
        checks.NEGATIVE_SAMPLING,
        lambda **given: word_gradients(**given, random_sign=-1.0),
        "a random word pushes v away",
    ),
    (checks.NEGATIVE_SAMPLING, lambda **given: word_gradients(**given, mean=True), "the gradients of all random words"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"
