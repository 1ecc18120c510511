"""BLEU, against examples that are counted by hand."""

import math

import pytest

from ch05_rnn.sentences.bleu import bleu, matches

words = str.split

# Papineni et al. (2002), examples 1 and 2.
CANDIDATE_1 = words("It is a guide to action which ensures that the military always obeys the commands of the party")
CANDIDATE_2 = words("It is to insure the troops forever hearing the activity guidebook that party direct")
REFERENCES = [
    words("It is a guide to action that ensures that the military will forever heed Party commands"),
    words(
        "It is the guiding principle which guarantees the military forces always being under the command of the Party"
    ),
    words("It is the practical guide for the army always to heed the directions of the party"),
]


def test_the_papers_examples_of_modified_precision():
    mats = [words("the cat is on the mat"), words("there is a cat on the mat")]
    assert matches(["the"] * 7, mats, 1) == (2, 7)
    assert matches(CANDIDATE_1, REFERENCES, 1) == (17, 18)
    assert matches(CANDIDATE_2, REFERENCES, 1) == (8, 14)
    assert matches(CANDIDATE_1, REFERENCES, 2) == (10, 17)
    assert matches(CANDIDATE_2, REFERENCES, 2) == (1, 13)


def test_a_corpus_by_hand():
    """Counts are summed over the corpus before the division; the second output is one word too short."""
    outputs = [words("a b c d e"), words("a b c x")]
    references = [[words("a b c d f")], [words("a b c d e")]]
    p = [(4 + 3) / 9, (3 + 2) / 7, (2 + 1) / 5, (1 + 0) / 3]
    expected = math.exp(1 - 10 / 9) * math.prod(p) ** (1 / 4)
    assert bleu(outputs, references) == pytest.approx(expected)


def test_the_brevity_penalty_takes_the_closest_reference():
    output, near, far = words("a b c d e"), words("a b c d e f"), words("a b c d e f g h")
    assert bleu([output], [[far, near]]) == pytest.approx(math.exp(1 - 6 / 5))
    equally_near = [near, words("a b c d")]
    assert bleu([output], [equally_near]) == 1, "of two equally close references the shorter one counts"
    assert bleu([near], [[output, near]]) == 1


def test_nothing_in_common_is_zero():
    assert bleu([words("a b c d")], [[words("e f g h")]]) == 0
    assert bleu([words("a b c x")], [[words("a b c d")]]) == 0, "no 4-gram"
    assert bleu([[]], [[["a"]]]) == 0, "an empty output"
