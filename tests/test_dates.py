"""Dates in words, checked by hand; pairs from files; disjoint training and test sets."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.sentence_pairs import dates, pairs


@pytest.mark.parametrize(
    ("number", "words", "place", "short"),
    [
        (1, "one", "first", "1st"), (2, "two", "second", "2nd"), (3, "three", "third", "3rd"),
        (4, "four", "fourth", "4th"), (5, "five", "fifth", "5th"), (8, "eight", "eighth", "8th"),
        (9, "nine", "ninth", "9th"), (11, "eleven", "eleventh", "11th"), (12, "twelve", "twelfth", "12th"),
        (13, "thirteen", "thirteenth", "13th"), (20, "twenty", "twentieth", "20th"),
        (21, "twenty-one", "twenty-first", "21st"), (22, "twenty-two", "twenty-second", "22nd"),
        (23, "twenty-three", "twenty-third", "23rd"), (30, "thirty", "thirtieth", "30th"),
        (31, "thirty-one", "thirty-first", "31st"),
    ],
)  # fmt: skip
def test_numbers_by_hand(number, words, place, short):
    assert dates.number_in_words(number) == words
    assert dates.ordinal_in_words(number) == place
    assert dates.ordinal(number) == short


@pytest.mark.parametrize(
    ("year", "in_words", "full"),
    [
        (1900, "nineteen hundred", "one thousand nine hundred"),
        (1905, "nineteen oh five", "one thousand nine hundred and five"),
        (1912, "nineteen twelve", "one thousand nine hundred and twelve"),
        (1997, "nineteen ninety-seven", "one thousand nine hundred and ninety-seven"),
        (2000, "two thousand", "two thousand"),
        (2005, "two thousand and five", "two thousand and five"),
        (2010, "twenty ten", "two thousand and ten"),
        (2040, "twenty forty", "two thousand and forty"),
    ],
)
def test_years_by_hand(year, in_words, full):
    assert dates.year_in_words(year) == in_words
    assert dates.year_in_full(year) == full


def test_every_format_by_hand():
    assert {name: write(date(1997, 11, 3)) for name, write in dates.FORMATS.items()} == {
        "dots": "3.11.1997",
        "slashes": "03/11/1997",
        "roman": "3.xi.1997",
        "short": "3-nov-1997",
        "plain": "3 november 1997",
        "american": "november 3, 1997",
        "ordinal": "the 3rd of november 1997",
        "american ordinal": "november 3rd, 1997",
        "year first": "1997, november the 3rd",
        "short weekday": "mon nov 3 1997",
        "weekday": "monday, 3 november 1997",
        "half words": "november the third, 1997",
        "words": "the third of november nineteen ninety-seven",
        "american words": "november third, nineteen ninety-seven",
        "weekday words": "on monday the third of november nineteen ninety-seven",
        "formal": "the third day of november in the year one thousand nine hundred and ninety-seven",
    }


@given(st.dates(dates.FIRST, dates.LAST), st.dates(dates.FIRST, dates.LAST))
def test_texts_are_unambiguous(one, other):
    texts = [{write(day) for write in dates.FORMATS.values()} for day in (one, other)]
    assert len(texts[0]) == len(dates.FORMATS)
    assert one == other or not texts[0] & texts[1]


def test_the_set_has_no_date_in_two_splits_and_no_pair_twice():
    data = dates.load_dates()
    splits = [data.train, data.valid, data.test]
    assert [len(split) for split in splits] == [90_000, 5_000, 5_000]
    days = [set(split.targets) for split in splits]
    assert not days[0] & days[1] and not days[0] & days[2] and not days[1] & days[2]
    for split in splits:
        assert len(set(split.sources)) == len(split)
        assert set(split.kinds) == set(dates.FORMATS)
        for source, target, kind in list(zip(split.sources, split.targets, split.kinds, strict=True))[:200]:
            assert dates.FORMATS[kind](date.fromisoformat(target)) == source
    again = dates.load_dates(limit=10)
    assert again.card.sha256 == data.card.sha256
    assert again.train == data.train[:10] and len(again.test) == 10
    assert data.card.embedded
    assert data.card.description.startswith("90,000 train, 5,000 valid, 5,000 test, embedded")


def write_pairs(path, count=40, twice=0):
    lines = [f"source {n}\ttarget {n}\tCC-BY" for n in range(count)]
    lines += [f"source {n}\tanother target {n}" for n in range(twice)]
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    return path


def test_a_file_is_split_by_source(tmp_path):
    data = pairs.load_pairs(write_pairs(tmp_path / "eng.txt", 40, twice=40))
    splits = [data.train, data.valid, data.test]
    assert [len(split) for split in splits] == [72, 4, 4], "a source with two targets must be in one split"
    sources = [set(split.sources) for split in splits]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]
    assert sorted(target for split in splits for target in split.targets) == sorted(
        [f"{kind}target {n}" for n in range(40) for kind in ("", "another ")]
    )
    assert data.card.name == "eng" and not data.card.embedded
    assert pairs.load_pairs(tmp_path / "eng.txt", limit=3).train == data.train[:3]
    assert data.train.sources != sorted(data.train.sources), "a limit must not take the first lines of the file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a\tb\nno tab here\n", "line 2 has no tab: 'no tab here'; a line is source, tab, target"),
        (b"a\tb\n\n\tb\n", "line 3 has an empty source"),
        (b"a\t \n", "line 1 has an empty target"),
        (b"a\tb\n\xff\n", "is not UTF-8: byte 4 cannot be decoded"),
        (b"a\tb\na\tc\n", "has 1 distinct sources; at least 20 are needed to hold some out"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "pairs.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path} {message}")):
        pairs.load_pairs(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / 'no.txt'} does not exist: --pairs takes")):
        pairs.load_pairs(tmp_path / "no.txt")


TEXT = st.text(st.characters(blacklist_characters="\t\n\r\ufeff", blacklist_categories=["Cs"]), min_size=1).filter(
    str.strip
)


@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_written_pairs_are_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("pairs") / "pairs.txt"
    path.write_bytes("\n".join(f"{source}\t{target}\textra" for source, target in rows).encode())
    read = pairs.read_pairs(path)
    assert list(zip(read.sources, read.targets, strict=True)) == [(s.strip(), t.strip()) for s, t in rows]
