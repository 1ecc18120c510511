"""WordSim-353, SimLex-999 and the Google analogies: where they are found, and errors for invalid files."""

import re
from types import SimpleNamespace

import pytest

from common.data.source import DataUnavailable
from common.data.words import word_tests
from common.data.words.word_tests import WordPair, load_analogies, load_pairs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(word_tests, "find_spec", lambda name: None)
    return tmp_path


def test_pairs_and_ratings_are_read(folder):
    (folder / "wordsim353.tsv").write_text(
        "# a comment\n# Word 1\tWord 2\tHuman\ntiger\tcat\t7.35\n\nking\tcabbage\t.23\n"
    )
    assert load_pairs("wordsim-353") == [WordPair("tiger", "cat", 7.35), WordPair("king", "cabbage", 0.23)]


def test_questions_have_the_family_above_them(folder):
    (folder / "questions-words.txt").write_text(": family\nboy girl man woman\n\n: plural\ncat cats dog dogs\n")
    first, second = load_analogies()
    assert (first.family, first.a, first.b, first.c, first.answer) == ("family", "boy", "girl", "man", "woman")
    assert second.family == "plural"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "wordsim353.tsv",
            "tiger cat 7.35\n",
            "line 1 is 'tiger cat 7.35': it must have two words and a number, with tabs",
        ),
        ("wordsim353.tsv", "# x\ntiger\tcat\thigh\n", r"line 2 is 'tiger\tcat\thigh'"),
        ("wordsim353.tsv", "tiger\tcat\tnan\n", r"line 1 is 'tiger\tcat\tnan'"),
        ("wordsim353.tsv", "# x\n", "contains no pairs of words"),
        (
            "questions-words.txt",
            "boy girl man woman\n",
            "line 1 is 'boy girl man woman': it must be ': family', or four",
        ),
        ("questions-words.txt", ": family\nboy girl man\n", "line 2 is 'boy girl man'"),
        ("questions-words.txt", ": family\n", "contains no questions"),
        ("questions-words.txt", b"\xff", "is not UTF-8: byte 0 cannot be decoded"),
    ],
)
def test_a_broken_file_is_named_with_its_line(folder, name, text, message):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(f"{folder / name} {message}")):
        load_analogies() if name.startswith("questions") else load_pairs("wordsim-353")


def test_a_missing_set_says_where_it_would_be(folder):
    with pytest.raises(
        DataUnavailable, match=r"simlex-999 not found: .*simlex999\.txt does not exist, .*'\.\[vectors\]'"
    ):
        load_pairs("simlex-999")


def test_a_set_is_found_in_gensim_without_importing_it(folder, monkeypatch):
    shipped = folder / "gensim" / "test" / "test_data"
    shipped.mkdir(parents=True)
    package = SimpleNamespace(origin=str(folder / "gensim" / "__init__.py"))
    monkeypatch.setattr(word_tests, "find_spec", lambda name: package)
    with pytest.raises(DataUnavailable, match="wordsim-353 not found"):  # another release may leave it out
        load_pairs("wordsim-353")
    (shipped / "wordsim353.tsv").write_text("a\tb\t1\n")
    assert load_pairs("wordsim-353") == [WordPair("a", "b", 1)]
    (folder / "wordsim353.tsv").write_text("c\td\t2\n")
    assert load_pairs("wordsim-353") == [WordPair("c", "d", 2)], "DATA_DIR comes first"
