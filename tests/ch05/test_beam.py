"""Beam search: against all texts of a small vocabulary, against a search with lists, and what stops it."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch05_rnn.sentences.beam import beam_search
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD

BEAM = {"start": START, "end": END, "pad": PAD}
PENALTIES = (0.0, 0.6, 1.0, 2.0)


def markov(log_p):
    """A step whose next token depends on the last one only, with the text so far as its state."""

    def step(tokens, state):
        (past,) = state
        return log_p[tokens], (torch.cat([past[:, 1:], tokens.unsqueeze(1)], 1),)

    return step


HASHES = 7


def with_history(tables):
    """A step for several texts, each with its own table, whose next token depends on all tokens so far.

    The state is the number of the table and a hash of the text: (3 h + token) modulo 7 after each token.
    """

    def step(tokens, state):
        number, past = state
        past = (3 * past + tokens) % HASHES
        return tables[number, past, tokens], (number, past)

    return step


def next_log_p(table, text):
    """The same for one text, from its start."""
    past, last = 0, START
    for last in (START, *text):
        past = (3 * past + last) % HASHES
    return table[past, last]


def random_chain(seed, words=6):
    log_p = 2 * torch.randn(words, words, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    log_p[:, [PAD, START]] = -math.inf
    return log_p.log_softmax(1)


def nothing(batch=1, size=4):
    return (torch.zeros(batch, size, dtype=torch.int64),)


def all_texts(log_p, length):
    """Every text of at most `length` tokens that ends, or that has this length, with its log-probability."""
    for size in range(1, length + 1):
        for text in itertools.product(range(log_p.shape[1]), repeat=size):
            if PAD in text or END in text[:-1] or (size < length and text[-1] != END):
                continue
            yield text, float(sum(log_p[a, b] for a, b in zip((START, *text[:-1]), text, strict=True)))


def list_search(table, width, max_length, length_penalty):
    """Beam search as its docstring describes it, for one text, without stopping early."""
    beginnings: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    complete = []
    for length in range(1, max_length + 1):
        extensions = [
            ((*text, token), total + log_p)
            for text, total in beginnings
            for token, log_p in enumerate(next_log_p(table, text).tolist())
            if token != PAD
        ]
        extensions = sorted(extensions, key=lambda each: -each[1])[:width]
        ended = [each for each in extensions if each[0][-1] == END or length == max_length]
        complete += [(text, total / length**length_penalty) for text, total in ended if total > -math.inf]
        beginnings = [each for each in extensions if each not in ended]
    return max(complete, key=lambda each: each[1])


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_text_with_the_highest_score(seed, penalty):
    log_p = random_chain(seed)
    tokens, score = beam_search(markov(log_p), nothing(), width=200, max_length=4, length_penalty=penalty, **BEAM)
    scores = {text: total / len(text) ** penalty for text, total in all_texts(log_p, 4)}
    best = max(scores, key=scores.__getitem__)
    found = tokens[0].tolist()
    assert found[: len(best)] == list(best) and set(found[len(best) :]) <= {PAD}
    assert float(score[0]) == pytest.approx(scores[best], rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 7), st.sampled_from(PENALTIES))
def test_the_search_is_that_with_lists(seed, width, max_length, penalty):
    """Stopping early, searching for several texts at once, and selecting states change nothing."""
    tables = torch.stack([torch.stack([random_chain(seed + 10 * n + h) for h in range(HASHES)]) for n in range(3)])
    tokens, scores = beam_search(
        with_history(tables),
        (torch.arange(3), torch.zeros(3, dtype=torch.int64)),
        width=width,
        max_length=max_length,
        length_penalty=penalty,
        **BEAM,
    )
    for table, row, score in zip(tables, tokens.tolist(), scores.tolist(), strict=True):
        text, expected = list_search(table, width, max_length, penalty)
        assert row[: len(text)] == list(text) and set(row[len(text) :]) <= {PAD}
        assert score == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed, penalty):
    log_p = random_chain(seed)
    tokens, score = beam_search(markov(log_p), nothing(), width=1, max_length=6, length_penalty=penalty, **BEAM)
    last, greedy, total = START, [], 0.0
    while len(greedy) < 6 and last != END:
        total += float(log_p[last].max())
        last = int(log_p[last].argmax())
        greedy.append(last)
    assert tokens[0].tolist() == greedy
    assert float(score[0]) == pytest.approx(total / len(greedy) ** penalty)


def test_greedy_decoding_can_miss_the_most_probable_text():
    """Word 4 is more probable than 5 at first, but only 5 continues with certainty."""
    p = torch.full((6, 6), 1e-9, dtype=torch.float64)
    p[START, 4], p[START, 5] = 0.6, 0.4
    p[4, 4], p[4, 5], p[4, END] = 0.4, 0.3, 0.3
    p[5, END] = 1.0
    found = {w: beam_search(markov(p.log()), nothing(), width=w, max_length=2, **BEAM)[0][0].tolist() for w in (1, 2)}
    assert found == {1: [4, 4], 2: [5, END]}


def test_the_length_penalty_decides_between_a_short_and_a_long_text():
    """The end has probability 0.5 at once; 4, 5 and the end have 0.4, 0.9 and 0.9."""
    p = torch.full((6, 6), 1e-9, dtype=torch.float64)
    p[START, END], p[START, 4] = 0.5, 0.4
    p[4, 5], p[5, END] = 0.9, 0.9
    found = {}
    for penalty in (0.0, 1.0):
        tokens, score = beam_search(markov(p.log()), nothing(), width=3, max_length=9, length_penalty=penalty, **BEAM)
        found[penalty] = tokens[0].tolist()
        total = math.log(0.5) if penalty == 0 else math.log(0.4 * 0.9 * 0.9) / 3
        assert float(score[0]) == pytest.approx(total)
    assert found == {0.0: [END], 1.0: [4, 5, END]}


def test_padding_is_never_generated_and_a_text_need_not_end():
    log_p = torch.full((6, 6), -9.0, dtype=torch.float64)
    log_p[:, PAD] = -0.1  # padding is the most probable token
    log_p[:, 4] = -1.0
    tokens, score = beam_search(markov(log_p), nothing(), width=2, max_length=3, **BEAM)
    assert tokens.tolist() == [[4, 4, 4]] and float(score[0]) == pytest.approx(-3)


def test_the_search_stops_when_no_beginning_can_win():
    p = torch.full((6, 6), 0.02, dtype=torch.float64)
    p[:, END] = 0.9
    calls = []

    def counted(tokens, state):
        calls.append(len(tokens))
        return markov(p.log())(tokens, state)

    tokens, _ = beam_search(counted, nothing(3), width=4, max_length=50, **BEAM)
    assert tokens.tolist() == [[END]] * 3
    assert calls == [12], "the best beginning, with log 0.02, is below the text with log 0.9"
    calls.clear()
    beam_search(counted, nothing(3), width=4, max_length=50, length_penalty=1.0, **BEAM)
    assert len(calls) == 2, "log 0.02 / 50 is above log 0.9; (log 0.02 + log 0.02) / 50 is not"
