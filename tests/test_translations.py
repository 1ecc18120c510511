"""Sentence pairs: the German grammar by hand, no sentence in two splits, Multi30k's files and errors in them."""

import gzip
import random
import re

import pytest

from common.data import source
from common.data.published import RELEASES, Release
from common.data.source import DataUnavailable, data_dir, sha256_of_lines
from common.data.text import german, translations
from common.data.text.german import NEW, PATTERNS, PERSONS, THINGS, Noun, Phrase, compound, load_german
from common.data.text.translations import load_translations

MAN, WOMAN, CHILD = PERSONS[:3]
TABLE = compound("Holz", THINGS[1])


@pytest.mark.parametrize(
    ("article", "noun", "nominative", "accusative", "english"),
    [
        ("the", MAN, "der alte Mann", "den alten Mann", "the old man"),
        ("the", WOMAN, "die alte Frau", "die alte Frau", "the old woman"),
        ("the", CHILD, "das alte Kind", "das alte Kind", "the old child"),
        ("a", MAN, "ein alter Mann", "einen alten Mann", "an old man"),
        ("a", WOMAN, "eine alte Frau", "eine alte Frau", "an old woman"),
        ("a", CHILD, "ein altes Kind", "ein altes Kind", "an old child"),
        ("a", TABLE, "ein alter Holztisch", "einen alten Holztisch", "an old wooden table"),
    ],
)
def test_articles_and_adjectives_agree(article, noun, nominative, accusative, english):
    phrase = Phrase(article, "alt", noun)
    assert (phrase.german("nominative"), phrase.german("accusative")) == (nominative, accusative)
    assert phrase.english() == english


def test_a_big_thing_is_a_tall_person():
    assert Phrase("a", "groß", MAN).english() == "a tall man" and Phrase("a", "groß", TABLE).english().startswith(
        "a big"
    )
    assert Phrase("a", "", compound("Eisen", THINGS[0])).english() == "an iron ball"
    assert compound("Glas", Noun("Tür", "f", "door")) == ("Glastür", "f", "glass door")


EXAMPLES = {
    "simple": ("Der Vater kauft einen Ball.", "The father buys a ball."),
    "adverb": ("Heute kauft der Vater einen Ball.", "Today the father buys a ball."),
    "object first": ("Einen Ball kauft der Vater.", "The father buys a ball."),
    "perfect": ("Der Vater hat einen Ball gekauft.", "The father has bought a ball."),
    "modal": ("Der Vater will einen Ball kaufen.", "The father wants to buy a ball."),
    "clause": (
        "Der Vater lacht, weil der Vater einen Ball kauft.",
        "The father laughs because the father buys a ball.",
    ),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_by_hand(monkeypatch, pattern):
    subject, thing = Phrase("the", "", PERSONS[5]), Phrase("a", "", THINGS[0])
    monkeypatch.setattr(german, "phrase", lambda nouns, *_: subject if nouns is PERSONS else thing)
    verbs = [verb for verb in german.VERBS if verb.finite == "kauft"]
    for name, words in (("ADVERBS", "Heute"), ("MODALS", "will"), ("FEELINGS", "lacht"), ("CONJUNCTIONS", "weil")):
        monkeypatch.setattr(german, name, {words: getattr(german, name)[words]})
    monkeypatch.setattr(german, "VERBS", verbs)
    assert german.sentence(pattern, list(THINGS), random.Random(0)) == EXAMPLES[pattern]


def test_an_object_that_comes_first_is_recognised_by_a_masculine_noun():
    rng = random.Random(0)
    for _ in range(300):
        text, _ = german.sentence("object first", list(THINGS), rng)
        nouns = [noun for noun in (*PERSONS, *THINGS) if re.search(rf"\b{noun.german}\b", text)]
        assert len(nouns) == 2 and "m" in {noun.gender for noun in nouns}


@pytest.fixture(scope="module")
def data():
    return load_german()


def test_no_sentence_is_in_two_splits_and_each_has_one_translation(data):
    splits = [data.train, data.valid, data.test]
    assert [len(split) for split in splits] == [10_000, 500, 1_000]
    sources = [text for split in splits for text in split.sources]
    assert len(set(sources)) == len(sources)
    for split in splits:
        assert all(text[0].isupper() and text.endswith(".") for text in (*split.sources, *split.targets))
        assert not any("  " in text for text in (*split.sources, *split.targets))
    assert set(data.train.kinds) == set(PATTERNS) and set(data.test.kinds) == {*PATTERNS, NEW} == set(data.valid.kinds)
    assert data.card.embedded and data.card.name == "german"
    again = load_german(limit=5)
    assert again.card.sha256 == data.card.sha256 and again.train == data.train[:5] and len(again.test) == 5


def test_new_compounds_are_in_one_split_and_their_parts_in_training(data):
    pattern = re.compile(rf"\b({'|'.join(german.MATERIALS)})({'|'.join(n.german.lower() for n in THINGS)})\b")
    known = {match for text in data.train.sources for match in pattern.findall(text)}
    new = []
    for split in (data.valid, data.test):
        found = {True: set(), False: set()}
        for text, kind in zip(split.sources, split.kinds, strict=True):
            found[kind == NEW] |= set(pattern.findall(text))
        assert len(found[True]) == german.NEW_COMPOUNDS and not found[True] & known
        assert found[False] <= known
        new.append(found[True])
    assert not new[0] & new[1]
    for material, thing in new[0] | new[1]:
        assert sum(material == its for its, _ in known) >= 6 and sum(thing == its for _, its in known) >= 3


# Multi30k.


def put_multi30k(train=30, packed=True):
    """Write a few pairs in Multi30k's layout."""
    folder = data_dir() / "multi30k"
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("val", 5), ("test_2016_flickr", 6)):
        for language, words in (("de", "Ein Mann"), ("en", "A man")):
            text = "".join(f"{words} {split} {number}. \n" for number in range(count)).encode()
            path = folder / f"{split}.{language}"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text))
            else:
                path.write_bytes(text)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_line_n_of_both_files_is_a_pair(packed):
    folder = put_multi30k(packed=packed)
    data = load_translations("multi30k")
    assert [len(split) for split in (data.train, data.valid, data.test)] == [30, 5, 6]
    assert (data.train.sources[3], data.train.targets[3]) == ("Ein Mann train 3.", "A man train 3.")
    assert data.test.sources[5] == "Ein Mann test_2016_flickr 5."
    assert data.card.name == "multi30k (partial: 30 of 29,000 train pairs)"
    assert data.card.description == f"30 train, 5 valid, 6 test, from {folder}"
    few = load_translations("multi30k", limit=4)
    assert few.train == data.train[:4] and len(few.test) == 4 and few.card.sha256 == data.card.sha256


def test_contents_are_compared_with_the_published_ones(monkeypatch):
    folder = put_multi30k(packed=False)
    files = {path.name: [line.strip() for line in path.read_text().split("\n")[:-1]] for path in folder.iterdir()}
    counts = {"train pairs": 30, "valid pairs": 5, "test pairs": 6}
    release = Release(counts, {name: sha256_of_lines(lines) for name, lines in files.items()})
    monkeypatch.setitem(RELEASES, "multi30k", (release,))
    assert load_translations("multi30k").card.name == "multi30k"
    (folder / "val.en").write_text((folder / "val.en").read_text().replace("man", "woman", 1))
    assert load_translations("multi30k").card.name == "multi30k (altered: val.en)"
    assert set(RELEASES["multi30k"][0].sha256) == set(files)


def damage(path, change):
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(change(text)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: damage(folder / "val.de.gz", lambda text: text + b"x\n"),
         "multi30k has 6 lines in val.de and 5 in val.en: line n of one must be the translation of line n"),
        (lambda folder: damage(folder / "val.de.gz", lambda text: text + b"\xff\n"), "val.de.gz is not UTF-8: byte 85"),
        (lambda folder: damage(folder / "train.en.gz", lambda text: text.replace(b"A man train 2. ", b" ")),
         "train.en.gz line 3 is empty: a line is a sentence"),
        (lambda folder: damage(folder / "train.en.gz", lambda text: b""), "train.en.gz line 1 is empty"),
        (lambda folder: (folder / "train.en.gz").write_bytes((folder / "train.en.gz").read_bytes()[:-9]),
         "train.en.gz is a broken gzip file"),
        (lambda folder: (folder / "val.en.gz").unlink(), "multi30k lacks val.en, and the download failed"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named(change, message):
    change(put_multi30k())
    with pytest.raises(ValueError, match=message):
        load_translations("multi30k")


def test_a_missing_set_names_the_embedded_one():
    with pytest.raises(DataUnavailable, match=r"multi30k is not in .*DATA_OFFLINE.*--data german"):
        load_translations("multi30k")


def test_missing_files_are_downloaded_with_their_checksums(monkeypatch):
    folder = put_multi30k()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "val.en.gz").unlink()
    asked = []

    def fetch(mirrors, path, checksum):
        asked.append((mirrors[0].rpartition("/")[2], path.name, checksum))
        path.write_bytes(kept[path.name])

    monkeypatch.setattr(translations, "fetch", fetch)
    assert len(load_translations("multi30k").valid) == 5
    assert asked == [("val.en.gz", "val.en.gz", translations.SHA256["val.en.gz"])]


def test_the_real_files_have_these_checksums(real_data):
    folder = data_dir() / "multi30k"
    if not folder.exists():
        pytest.skip(f"multi30k is not in {data_dir()}")
    for name, sha256 in translations.SHA256.items():
        if (folder / name).exists():
            assert source.sha256_of_file(folder / name) == sha256
