"""Vocabularies: their order, their way into numbers and back, and what is saved of them."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.data.text import UNKNOWN, Vocabulary


def test_the_most_frequent_come_first_and_equals_in_the_order_of_the_alphabet():
    assert Vocabulary.build("mississippi", reserved=()).symbols == ("i", "s", "p", "m")
    assert Vocabulary.build("bca").symbols == (UNKNOWN, "a", "b", "c")


def test_reserved_symbols_come_first_and_only_once():
    tokens = ["a", "<end>", "<end>", "<end>", "b", "b"]
    assert Vocabulary.build(tokens, reserved=("<pad>", "<end>")).symbols == ("<pad>", "<end>", "b", "a")


def test_rare_tokens_and_those_beyond_the_maximum_are_left_out():
    assert Vocabulary.build("aaabbc", minimum_count=2).symbols == (UNKNOWN, "a", "b")
    assert Vocabulary.build("aaabbc", maximum_size=2).symbols == (UNKNOWN, "a")
    with pytest.raises(ValueError, match="minimum count must be at least 1, got 0"):
        Vocabulary.build("a", minimum_count=0)


def test_numbers_are_places():
    vocabulary = Vocabulary(("<unknown>", "a", "b"))
    assert len(vocabulary) == 3
    assert "a" in vocabulary and "c" not in vocabulary
    numbers = vocabulary.encode(["b", "a", "c"])
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == [2, 1, 0]
    assert vocabulary.decode(numbers) == ["b", "a", "<unknown>"]
    assert vocabulary.encode([]).shape == (0,)


def test_an_unknown_token_is_named_where_nothing_stands_for_it():
    with pytest.raises(ValueError, match="the vocabulary has no 'c'"):
        Vocabulary(("a", "b")).encode(iter("abc"))


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_that_is_no_symbols_is_named(number):
    with pytest.raises(ValueError, match=f"numbers are 0 to 1, got {number}"):
        Vocabulary(("a", "b")).decode([number])


def test_a_symbol_twice_is_refused():
    with pytest.raises(ValueError, match="'a' is there twice"):
        Vocabulary(("a", "b", "a"))


@given(st.lists(st.text(max_size=3)))
def test_what_was_counted_comes_back_whatever_the_order(tokens):
    vocabulary = Vocabulary.build(tokens)
    assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
    assert Vocabulary.build(reversed(tokens)) == vocabulary
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


def test_saved_and_loaded_it_is_the_same(tmp_path):
    vocabulary = Vocabulary.build(["näher", "\n", "日", "näher"])
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize(
    "content", ["{}", "[1]", '{"symbols": [1]}', '{"symbols": "ab"}', '{"symbols": ["a", "a"]}', "{"]
)
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocabulary\.json does not exist"):
        Vocabulary.load(tmp_path / "vocabulary.json")
