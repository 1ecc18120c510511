"""Texts: reading, splitting, and errors."""

import hashlib
import zipfile

import pytest
import torch

from common.data import source
from common.data.source import DataUnavailable
from common.data.text import corpora
from common.data.text.corpora import load_corpus, read_text
from common.data.text.vocabulary import UNKNOWN


@pytest.fixture
def novel(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("".join(f"line {number} of it, äöü.\n" for number in range(200)), encoding="utf-8")
    return path


def put_wikitext(folder, packed):
    parts = {"train.txt": " = A = \n the <unk> cat \n the cat \n", "valid.txt": " the cat \n", "test.txt": " a dog \n"}
    if packed:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / "wikitext-2.zip", "w") as file:
            for name, text in parts.items():
                file.writestr(f"some/where/{name}", text)
        return
    (folder / "wikitext-2").mkdir(parents=True)
    for name, text in parts.items():
        (folder / "wikitext-2" / name).write_text(text)


def test_the_parts_are_consecutive_and_complete(novel):
    corpus = load_corpus("auto", text=str(novel))
    read = "".join("".join(corpus.vocabulary.decode(part.tokens)) for part in (corpus.train, corpus.valid, corpus.test))
    assert read == novel.read_text(encoding="utf-8")
    size = len(read)
    assert len(corpus.valid) == len(corpus.test) == size // 20
    assert corpus.card.name == "novel.txt" and not corpus.card.embedded
    assert corpus.card.description.startswith(
        f"{len(corpus.train):,} train, {size // 20} valid, {size // 20} test char"
    )
    assert corpus.card.sha256 == hashlib.sha256(read.encode()).hexdigest()


def test_the_vocabulary_is_built_from_the_training_part(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("ab" * 100 + "z" * 20)
    corpus = load_corpus("auto", text=str(path))
    assert "z" not in corpus.vocabulary
    assert corpus.vocabulary.decode(corpus.test.tokens) == [UNKNOWN] * 11


def test_words_that_occur_once_are_unknown_by_default(novel):
    corpus = load_corpus("auto", text=str(novel), level="word")
    assert "line" in corpus.vocabulary and "17" not in corpus.vocabulary
    assert "17" in load_corpus("auto", text=str(novel), level="word", minimum_count=1).vocabulary
    assert len(load_corpus("auto", text=str(novel), level="word", maximum_size=4).vocabulary) == 4
    assert corpus.train.characters_per_token == pytest.approx(20.5 / 8, abs=0.1)  # line 17 of it , äöü . ⏎


def test_a_limit_shortens_every_part(novel):
    corpus = load_corpus("auto", text=str(novel), limit=50)
    assert [len(part) for part in (corpus.train, corpus.valid, corpus.test)] == [50, 50, 50]
    assert "50 train, 50 valid, 50 test characters" in corpus.card.description
    assert corpus.card.sha256 == load_corpus("auto", text=str(novel)).card.sha256


def test_windows_line_ends_and_byte_order_marks_are_removed(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\n".encode())
    assert read_text(path) == "one\ntwo\n"


def test_an_invalid_utf8_byte_is_reported(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(
        ValueError, match=r"latin\.txt is not UTF-8: byte 0xe9 at offset 3 \(invalid continuation byte\)"
    ):
        read_text(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "must contain text, got an empty file"), (b"abc", "validation part needs at least")],
)
def test_too_short_texts_are_rejected(tmp_path, content, message):
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_corpus("auto", text=str(path))


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_a_missing_text_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="is not a file: --text takes the path of a UTF-8 text"):
        load_corpus("auto", text=str(tmp_path / name))


def test_auto_loads_shakespeare_if_available_else_the_help_texts(tmp_path, monkeypatch):
    corpus = load_corpus("auto")
    assert corpus.card.name == "pydoc" and corpus.card.embedded
    assert corpus.card.description.endswith(
        "tiny-shakespeare is not in " + f"{tmp_path / 'data'} and cannot be downloaded"
    )
    folder = tmp_path / "data" / "tinyshakespeare"
    folder.mkdir(parents=True)
    (folder / "input.txt").write_text("First Citizen:\nSpeak, speak.\n" * 20)
    corpus = load_corpus("auto")
    assert corpus.card.published == "tiny-shakespeare" and not corpus.card.embedded


@pytest.mark.parametrize("name", ["tiny-shakespeare", "wikitext-2"])
def test_a_named_text_never_falls_back(name):
    with pytest.raises(DataUnavailable, match=f"{name} is not in .* or use the embedded text with --data pydoc"):
        load_corpus(name)


def test_a_download_is_verified(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(corpora, "fetch", lambda mirrors, path, checksum: asked.append((mirrors, path, checksum)))
    with pytest.raises(FileNotFoundError):
        load_corpus("wikitext-2")
    assert [path.name for _, path, _ in asked] == ["train.txt", "valid.txt", "test.txt"]
    assert all(mirrors[0].endswith(path.name) and len(checksum) == 64 for mirrors, path, checksum in asked)


@pytest.mark.parametrize("packed", [True, False])
def test_wikitext_from_its_archive_or_its_files(tmp_path, packed):
    put_wikitext(tmp_path / "data", packed)
    corpus = load_corpus("wikitext-2", level="word")
    words = corpus.vocabulary.decode(corpus.train.tokens)
    assert words == ["=", "A", "=", "\n", "the", UNKNOWN, "cat", "\n", "the", "cat", "\n"]
    assert set(corpus.vocabulary.symbols) == set(words), "WikiText's rare words are already replaced"
    assert corpus.vocabulary.decode(corpus.test.tokens) == [UNKNOWN, UNKNOWN, "\n"]


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wikitext-2.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"wikitext-2\.zip is a broken archive"):
        load_corpus("wikitext-2")
    with zipfile.ZipFile(tmp_path / "data" / "wikitext-2.zip", "w") as file:
        file.writestr("train.txt", "a b")
    with pytest.raises(ValueError, match=r"wikitext-2\.zip does not contain wikitext-2/valid\.txt"):
        load_corpus("wikitext-2")


def test_paragraphs_of_the_help_texts_are_unique():
    corpus = load_corpus("pydoc")
    assert source.DataUnavailable and corpus.card.embedded
    parts = ["".join(corpus.vocabulary.decode(part.tokens)) for part in (corpus.train, corpus.valid, corpus.test)]
    paragraphs = [paragraph for part in parts for paragraph in part.replace(UNKNOWN, "?").split("\n\n") if paragraph]
    assert len(paragraphs) > 1_000
    assert len(set(paragraphs)) > 0.999 * len(paragraphs)
    assert torch.equal(load_corpus("pydoc").train.tokens, corpus.train.tokens)


def test_the_held_out_help_texts_share_almost_no_twelve_words_with_the_training_text():
    """With a split at 80 and 90 % of the text, 22 % of the test set's 12-grams were in the training set."""
    train, valid, test = (corpora.word_ngrams(text) for text in corpora.READERS["pydoc"]()[0])
    for part, earlier in ((valid, train), (test, train), (test, valid)):
        assert len(part) > 2_000
        assert sum(map(set(earlier).__contains__, part)) < 0.005 * len(part)


def test_word_ngrams_of_twelve():
    assert corpora.word_ngrams("a b, c", order=2) == [("a", "b"), ("b", ","), (",", "c")]
    assert corpora.word_ngrams("a b") == []


def test_the_share_of_unknown_words_is_reported(novel):
    corpus = load_corpus("auto", text=str(novel), level="word")
    unknown = [word == UNKNOWN for word in corpus.vocabulary.decode(corpus.test.tokens)]
    assert corpus.test.unknown_rate == pytest.approx(sum(unknown) / len(unknown)) == pytest.approx(1 / 8, abs=0.03)
    assert f"{corpus.test.unknown_rate:.1%} of the test words unknown" in corpus.card.description
    assert "words unknown" not in load_corpus("auto", text=str(novel)).card.description
    assert (len(corpus.held_out), corpus.held_out.characters_per_token) == (
        len(corpus.valid) + len(corpus.test),
        pytest.approx(20.5 / 8, abs=0.1),
    )


@pytest.mark.data
def test_downloaded_texts_match_the_published_ones(real_data):
    assert source.sha256_of_file(source.data_dir() / "tinyshakespeare" / "input.txt") == corpora.SHAKESPEARE_SHA256
    corpus = load_corpus("tiny-shakespeare")
    assert [len(part) for part in (corpus.train, corpus.valid, corpus.test)] == [1_003_856, 55_769, 55_769]
    assert len(corpus.vocabulary) == 66
