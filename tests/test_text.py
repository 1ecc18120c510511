"""Text as numbers: vocabularies, words and spaces, and consecutive batches."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.data.text.vocabulary import UNKNOWN, Pieces, Streams, Vocabulary, spaced, split_spaced, split_words


def test_tokens_are_sorted_by_frequency_then_alphabetically():
    assert Vocabulary.build("mississippi", reserved=()).symbols == ("i", "s", "p", "m")
    assert Vocabulary.build("bca").symbols == (UNKNOWN, "a", "b", "c")


def test_reserved_symbols_come_first_and_only_once():
    tokens = ["a", "<end>", "<end>", "<end>", "b", "b"]
    assert Vocabulary.build(tokens, reserved=("<pad>", "<end>")).symbols == ("<pad>", "<end>", "b", "a")


def test_rare_tokens_and_those_beyond_the_maximum_are_omitted():
    assert Vocabulary.build("aaabbc", minimum_count=2).symbols == (UNKNOWN, "a", "b")
    assert Vocabulary.build("aaabbc", maximum_size=2).symbols == (UNKNOWN, "a")
    with pytest.raises(ValueError, match="minimum count must be at least 1, got 0"):
        Vocabulary.build("a", minimum_count=0)


def test_numbers_are_indices():
    vocabulary = Vocabulary(("<unknown>", "a", "b"))
    assert len(vocabulary) == 3
    assert "a" in vocabulary and "c" not in vocabulary
    numbers = vocabulary.encode(["b", "a", "c"])
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == [2, 1, 0]
    assert vocabulary.decode(numbers) == ["b", "a", "<unknown>"]
    assert vocabulary.encode([]).shape == (0,)


def test_an_unknown_token_without_a_symbol_is_named():
    with pytest.raises(ValueError, match="the vocabulary does not contain 'c'"):
        Vocabulary(("a", "b")).encode(iter("abc"))


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_out_of_range_is_named(number):
    with pytest.raises(ValueError, match=f"numbers are 0 to 1, got {number}"):
        Vocabulary(("a", "b")).decode([number])


def test_duplicate_symbols_are_rejected():
    with pytest.raises(ValueError, match="'a' occurs twice"):
        Vocabulary(("a", "b", "a"))


@given(st.lists(st.text(max_size=3)))
def test_encode_and_decode_are_inverse(tokens):
    vocabulary = Vocabulary.build(tokens)
    assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
    assert Vocabulary.build(reversed(tokens)) == vocabulary
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


def test_save_and_load_round_trip(tmp_path):
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


# From a text to words and back.


def test_split_into_words_marks_and_line_ends():
    text = 'She said: "It’s 9.50, isn\'t it?"\n(Yes.)'
    expected = ["She", "said", ":", '"', "It’s", "9", ".", "50", ",", '"', "(", "Yes", ".", ")"]
    words = split_words(text)
    assert [word for word in words if word not in ("isn't", "it", "?", "\n")] == expected
    assert "isn't" in words and "\n" in words


def test_spaced_text_is_split_at_spaces():
    assert split_spaced(" = Title = \n \n A <unknown> 's @-@ b .\n") == [
        *("=", "Title", "=", "\n", "\n", "A", "<unknown>", "'s", "@-@", "b", ".", "\n")
    ]


def test_the_unknown_symbol_is_one_word():
    assert split_words(f"a {UNKNOWN} b") == ["a", UNKNOWN, "b"]


def test_spaces_are_placed_as_usual():
    text = "A call (f, g) returns [1]; it ends.\nNext line!"
    assert "".join(spaced(split_words(text))) == text


@given(st.text(alphabet=st.sampled_from("ab ,.(\n"), max_size=40))
def test_spacing_keeps_the_words(text):
    words = split_words(text)
    assert split_words("".join(spaced(words))) == words


# Batches for truncated backpropagation through time.


def test_streams_are_read_in_parallel_and_in_order():
    streams = Streams(torch.arange(13), batch_size=3, steps=3)
    batches = list(streams)
    assert len(batches) == len(streams) == 2
    inputs, targets = batches[0]
    assert inputs.tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10]]
    assert targets.tolist() == [[1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert batches[1][0].tolist() == [[3, 7, 11]]
    assert batches[1][1].tolist() == [[4, 8, 12]]


@given(size=st.integers(2, 200), batch=st.integers(1, 20), steps=st.integers(1, 30), seed=st.integers(0, 5))
def test_each_batch_continues_the_previous_one(size, batch, steps, seed):
    tokens = torch.arange(size)
    for generator in (None, torch.Generator().manual_seed(seed)):
        streams = Streams(tokens, batch_size=batch, steps=steps, generator=generator)
        batches = list(streams)
        assert len(batches) == len(streams)
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert inputs.shape == (streams.length, streams.streams)
        assert torch.equal(targets, inputs + 1), "the target of a token is its successor"
        assert torch.equal(inputs[1:], inputs[:-1] + 1)
        assert torch.equal(inputs[0, 1:], inputs[0, :-1] + streams.length), "streams follow each other"
        assert inputs.numel() >= (size - 1) * 0.9 - batch - 1


def test_each_pass_starts_at_a_random_token_and_is_repeatable():
    def passes(seed):
        streams = Streams(torch.arange(1_000), batch_size=4, steps=10, generator=torch.Generator().manual_seed(seed))
        return [int(next(iter(streams))[0][0, 0]) for _ in range(20)]

    first = passes(0)
    assert len(set(first)) > 5 and max(first) <= 9
    assert passes(0) == first != passes(1)


@given(
    size=st.integers(2, 300),
    batch=st.integers(1, 9),
    steps=st.integers(1, 12),
    segments=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_pieces_are_read_segment_after_segment(size, batch, steps, segments, seed):
    generator = torch.Generator().manual_seed(seed)
    pieces = Pieces(torch.arange(size), batch_size=batch, steps=steps, segments=segments, generator=generator)
    batches = list(pieces)
    assert len(batches) == len(pieces) > 0 and len(pieces) % pieces.segments == 0
    starts = []
    for first in range(0, len(batches), pieces.segments):
        inputs, targets = (torch.cat(parts) for parts in zip(*batches[first : first + pieces.segments], strict=True))
        assert inputs.shape == (pieces.length, pieces.together)
        assert torch.equal(targets, inputs + 1), "the target of a token is its successor"
        assert torch.equal(inputs[1:], inputs[:-1] + 1), "a piece is text in order"
        starts += inputs[0].tolist()
    assert len(set(starts)) == len(starts) and len({start % pieces.length for start in starts}) == 1, "no overlap"
    assert all(part.shape[0] <= steps for part, _ in batches)
    assert size < 3 or pieces.pieces * pieces.length >= (size - 1) * 0.95 - pieces.length


def test_pieces_are_shuffled_and_the_generator_repeats_it():
    def passes(seed):
        generator = torch.Generator().manual_seed(seed)
        pieces = Pieces(torch.arange(1_000), batch_size=4, steps=5, segments=2, generator=generator)
        return [next(iter(pieces))[0][0].tolist() for _ in range(20)]

    first = passes(0)
    assert passes(0) == first != passes(1)
    assert len({start % 10 for starts in first for start in starts}) > 5, "each pass begins elsewhere"
    assert any(starts != sorted(starts) for starts in first)


def test_too_short_text_is_rejected():
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        Pieces(torch.tensor([3]), batch_size=4, steps=2, segments=2, generator=torch.Generator())
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        Streams(torch.tensor([3]), batch_size=4, steps=2)
