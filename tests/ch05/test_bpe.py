"""Byte-pair encoding: against a slow version that follows the definition, by hand, and back to the text."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch05_rnn.translation import bpe
from ch05_rnn.translation.bpe import BYTES, FIRST, WORD, BytePairEncoding, merge

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=40)
REPETITIVE = st.text(st.sampled_from("ab c"), max_size=60)


def learn_by_definition(texts, count):
    """Count all pairs again before each merge, and replace the most frequent one in every word."""
    words = [[FIRST + byte for byte in word.encode()] for text in texts for word in WORD.findall(text)]
    merges = []
    for number in range(count):
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts or max(counts.values()) < 2:
            break
        pair = min(counts, key=lambda each: (-counts[each], each))
        merges.append(pair)
        words = [replace_pair(word, pair, FIRST + BYTES + number) for word in words]
    return merges


def replace_pair(word, pair, new):
    """Write the word as a string of characters, one per symbol, and let Python replace the pair."""
    text, old = "".join(map(chr, word)), "".join(map(chr, pair))
    return [ord(character) for character in text.replace(old, chr(new))]


def encode_by_definition(text, merges):
    """Apply every merge to every word, in the order in which they were learned."""
    symbols = []
    for word in WORD.findall(text):
        row = [FIRST + byte for byte in word.encode()]
        for number, pair in enumerate(merges):
            row = replace_pair(row, pair, FIRST + BYTES + number)
        symbols += row
    return symbols


def number_of(character):
    return FIRST + ord(character)


def test_the_usual_example():
    """aaabdaaabac: aa is Z, then ab is Y, then ZY is X; ab and Za are equally frequent."""
    encoding = BytePairEncoding.learn(["aaabdaaabac"], 10)
    a, b, c, d = map(number_of, "abcd")
    z, y, x = range(FIRST + BYTES, FIRST + BYTES + 3)
    assert encoding.merges == ((a, a), (a, b), (z, y)), "no further pair occurs twice"
    assert encoding.encode("aaabdaaabac") == [x, d, x, a, c]
    assert encoding.decode([x, d, x, a, c]) == "aaabdaaabac"
    assert len(encoding) == FIRST + BYTES + 3
    assert BytePairEncoding.learn(["aaabdaaabac"], 1).merges == ((a, a),)


def test_pairs_are_merged_from_the_left():
    assert merge((1, 1, 1, 2, 1, 1), (1, 1), 7) == (7, 1, 2, 7)
    assert merge((1, 2, 1, 2, 1), (1, 2), 7) == (7, 7, 1)
    assert merge((), (1, 2), 7) == ()


@settings(max_examples=150, deadline=None)
@given(st.lists(REPETITIVE | TEXT, max_size=5), st.integers(0, 40))
def test_merges_are_those_of_the_definition(texts, count):
    assert list(BytePairEncoding.learn(texts, count).merges) == learn_by_definition(texts, count)


def test_merges_of_many_words_are_those_of_the_definition():
    """Frequent words, so that counts fall and rise again while the queue holds their old values."""
    texts = ["the cat that sat on the mat that the cat hat at"] * 3 + ["hat that cat", "attatt attatt", "thethe the"]
    texts += [f" word{number} wording {number * number}" for number in range(60)]
    learned = BytePairEncoding.learn(texts, 200).merges
    assert list(learned) == learn_by_definition(texts, 200)
    assert len(learned) > 50


@settings(max_examples=150, deadline=None)
@given(st.lists(REPETITIVE, min_size=1, max_size=4), st.integers(0, 30), REPETITIVE | TEXT)
def test_a_text_is_encoded_as_defined_and_decoded_exactly(texts, count, text):
    encoding = BytePairEncoding.learn(texts, count)
    symbols = encoding.encode(text)
    assert symbols == encode_by_definition(text, encoding.merges)
    assert encoding.decode(symbols) == text
    assert encoding.encode(text) == symbols, "also from the cache"


@given(TEXT)
def test_words_make_up_the_text(text):
    assert "".join(WORD.findall(text)) == text


def test_words_take_the_space_before_them():
    assert WORD.findall("Ein  Mann, der läuft.\n") == ["Ein", "  ", "Mann", ",", " der", " läuft", ".", "\n"]


def test_a_frequent_word_is_one_symbol_and_a_new_one_is_made_of_parts():
    texts = [" Holztisch Holzhaus Holzball Glastisch Steintisch Glashaus"] * 4 + [" Holz tisch"] * 9
    encoding = BytePairEncoding.learn(texts, 12)
    assert [encoding.decode([symbol]) for symbol in encoding.encode(" Holztisch")] == [" Holz", "tisch"]
    assert len(encoding.encode(" Holz")) == 1
    assert all(symbol < FIRST + BYTES for symbol in encoding.encode("日本")), "bytes only: no such character is known"


def test_without_merges_the_symbols_are_bytes():
    encoding = BytePairEncoding.learn(["aaaa aaaa"], 0)
    assert encoding.encode("aä") == [number_of("a"), *(FIRST + byte for byte in "ä".encode())]
    assert len(encoding) == FIRST + BYTES


def test_reserved_symbols_have_no_text_and_partial_characters_are_replaced():
    encoding = BytePairEncoding(())
    assert encoding.decode([0, 1, 2, number_of("a"), 3]) == "a"
    assert encoding.decode([FIRST + "ä".encode()[0], number_of("b")]) == "\ufffdb"


def test_only_words_with_the_pair_are_merged_again(monkeypatch):
    """What makes learning fast: 200 merges of 100 words do not touch 20,000 words."""
    calls = []
    monkeypatch.setattr(bpe, "merge", lambda *its: calls.append(its) or merge(*its))
    words = [f"{chr(97 + n // 10)}{chr(107 + n % 10)}" * 3 for n in range(100)]
    learned = BytePairEncoding.learn([f" {word}" for word in words for _ in range(2)], 200)
    assert len(learned.merges) == 200
    assert len(calls) < 1_000


def test_save_and_load(tmp_path):
    encoding = BytePairEncoding.learn(["abab abab"], 3)
    encoding.save(tmp_path / "encoding.json")
    assert BytePairEncoding.load(tmp_path / "encoding.json") == encoding


A, B = number_of("a"), number_of("b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must have the form"),
        ("{}", "must have the form"),
        ('{"merges": [[5]]}', "must have the form"),
        ('{"merges": [["x", 5]]}', "must have the form"),
        (f'{{"merges": [[{A}, 260]]}}', r"merge 0 must join two earlier symbols, got \[101, 260\]"),
        (f'{{"merges": [[3, {A}]]}}', r"merge 0 must join two earlier symbols, got \[3, 101\]"),
        (json.dumps({"merges": [[A, B], [A, B]]}), "must not have a merge twice"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    path = tmp_path / "encoding.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"encoding\.json.* {message}"):
        BytePairEncoding.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"encoding\.json does not exist"):
        BytePairEncoding.load(tmp_path / "encoding.json")
