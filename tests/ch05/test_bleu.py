"""BLEU, against examples that are counted by hand, and against sacrebleu."""

import importlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch05_rnn.sentences import bleu as module
from ch05_rnn.sentences.bleu import bleu, matches, score, score_by_hand, tokenise_13a

words = str.split

# Papineni et al. (2002), examples 1 and 2.
CANDIDATE_1 = words("It is a guide to action which ensures that the military always obeys the commands of the party")
CANDIDATE_2 = words("It is to insure the troops forever hearing the activity guidebook that party direct")
REFERENCES_1 = [
    words("It is a guide to action that ensures that the military will forever heed Party commands"),
    words(
        "It is the guiding principle which guarantees the military forces always being under the command of the Party"
    ),
    words("It is the practical guide for the army always to heed the directions of the party"),
]


def test_the_papers_examples_of_modified_precision():
    mats = [words("the cat is on the mat"), words("there is a cat on the mat")]
    assert matches(["the"] * 7, mats, 1) == (2, 7)
    assert matches(CANDIDATE_1, REFERENCES_1, 1) == (17, 18)
    assert matches(CANDIDATE_2, REFERENCES_1, 1) == (8, 14)
    assert matches(CANDIDATE_1, REFERENCES_1, 2) == (10, 17)
    assert matches(CANDIDATE_2, REFERENCES_1, 2) == (1, 13)


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


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("It's 3.14 or 1,000 (about 5-6).", ["It's", "3.14", "or", "1,000", "(", "about", "5", "-", "6", ")", "."]),
        ("well-known a/b 50%", ["well-known", "a", "/", "b", "50", "%"]),
        ("&quot;Ja&quot; &amp; nein&lt;", ['"', "Ja", '"', "&", "nein", "<"]),
        ("Straße \u201eä\u201c ... x.", ["Straße", "\u201eä\u201c", ".", ".", ".", "x", "."]),
        ("a <skipped> b-\nc\nd", ["a", "bc", "d"]),
        ("  ", []),
    ],
)
def test_texts_are_split_like_those_of_wmt(text, tokens):
    assert tokenise_13a(text) == tokens


OUTPUTS = ["A man is playing a guitar.", "Two dogs run over the grass, quickly.", "the \u00c4pfel"]
REFERENCES = [
    ["A man plays a guitar.", "A man is playing the guitar."],
    ["Two dogs are running over the grass."],
    ["The \u00e4pfel are red."],
]


def test_a_score_is_that_of_tokens():
    tokens = [tokenise_13a(output) for output in OUTPUTS]
    assert score_by_hand(OUTPUTS, REFERENCES) == bleu(tokens, [[tokenise_13a(t) for t in its] for its in REFERENCES])
    lower = [[text.lower() for text in its] for its in REFERENCES]
    assert score_by_hand(OUTPUTS, REFERENCES, lowercase=True) == score_by_hand([o.lower() for o in OUTPUTS], lower)
    assert score_by_hand(OUTPUTS, REFERENCES, lowercase=True) > score_by_hand(OUTPUTS, REFERENCES) > 0


def test_without_sacrebleu_a_score_is_computed_by_hand(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert score(OUTPUTS, REFERENCES) == score_by_hand(OUTPUTS, REFERENCES)
    assert module.implementation() == "by hand, with tokeniser 13a: sacrebleu is not installed"


# The same numbers as sacrebleu, if it is installed.


@pytest.fixture(scope="module")
def sacrebleu():
    return pytest.importorskip("sacrebleu", reason="sacrebleu is not installed: pip install '.[translation]'")


@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_are_equal(sacrebleu, lowercase):
    assert score(OUTPUTS, REFERENCES, lowercase=lowercase) == pytest.approx(
        score_by_hand(OUTPUTS, REFERENCES, lowercase=lowercase), rel=1e-12
    )
    assert module.implementation().startswith("sacrebleu 2")


TEXT = st.lists(st.sampled_from(["a", "b", "C", "c", "d.", "1,5", "e-f", '"g"', "\u00fc"]), max_size=9).map(" ".join)


@given(st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_scores_of_random_texts_are_equal(sacrebleu, pairs):
    outputs, references = (list(column) for column in zip(*pairs, strict=True))
    assert score(outputs, references) == pytest.approx(score_by_hand(outputs, references), rel=1e-9, abs=1e-12)


@given(st.text(max_size=60))
def test_texts_are_split_equally(sacrebleu, text):
    tokeniser = importlib.import_module("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    assert tokenise_13a(text) == tokeniser(text.rstrip()).split()


def test_tokens_that_were_split_before_have_the_same_bleu(sacrebleu):
    outputs, references = [CANDIDATE_1, CANDIDATE_2], [REFERENCES_1] * 2
    streams = [[" ".join(its[number]) for its in references] for number in range(3)]
    theirs = sacrebleu.metrics.BLEU(tokenize="none", force=True).corpus_score(
        [" ".join(output) for output in outputs], streams
    )
    assert bleu(outputs, references) == pytest.approx(theirs.score / 100, rel=1e-12)
