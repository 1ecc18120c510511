"""Generate pairs of a date as it is written in English and in ISO 8601: `the 3rd of may 1999`, `1999-05-03`.

Every date from 1900 to 2099 belongs to one of the three splits in all its formats, so neither the texts nor the dates
of the test set occur in training. Texts are not ambiguous (days come before months wherever both are numbers), so every
source has exactly one correct target.
"""

import random
from collections.abc import Callable
from datetime import date, timedelta

from common.data.sentence_pairs.pairs import Pairs, PairSet, pair_set

SEED = 20_261_121
FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
TRAIN, VALID, TEST = 90_000, 5_000, 5_000
HELD_OUT = 0.05
"""Share of the dates in the validation split, and in the test split."""

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
IRREGULAR = {"one": "first", "two": "second", "three": "third", "five": "fifth"}
IRREGULAR |= {"eight": "eighth", "nine": "ninth", "twelve": "twelfth", "twenty": "twentieth", "thirty": "thirtieth"}


def number_in_words(number: int) -> str:
    """Spell a number from 0 to 99: 42 is `forty-two`."""
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


def ordinal_in_words(number: int) -> str:
    """Spell an ordinal number: 23 is `twenty-third`."""
    start, dash, last = number_in_words(number).rpartition("-")
    return start + dash + IRREGULAR.get(last, f"{last}th")


def ordinal(number: int) -> str:
    """Write an ordinal number with digits: 23 is `23rd`."""
    teen = number // 10 % 10 == 1
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def year_in_words(year: int) -> str:
    """Spell a year from 1900 to 2099: `nineteen oh five`, `two thousand and five`, `twenty fourteen`."""
    century, rest = divmod(year, 100)
    if 2000 <= year < 2010:
        return "two thousand" + (f" and {ONES[rest]}" if rest else "")
    if rest == 0:
        return f"{number_in_words(century)} hundred"
    return f"{number_in_words(century)} {'oh ' if rest < 10 else ''}{number_in_words(rest)}"


def year_in_full(year: int) -> str:
    """Spell a year as a number: `one thousand nine hundred and ninety-seven`."""
    thousands, rest = divmod(year, 1000)
    hundreds, rest = divmod(rest, 100)
    words = f"{ONES[thousands]} thousand" + (f" {ONES[hundreds]} hundred" if hundreds else "")
    return words + (f" and {number_in_words(rest)}" if rest else "")


def _month(day: date) -> str:
    return MONTHS[day.month - 1]


def _weekday(day: date) -> str:
    return DAYS[day.weekday()]


FORMATS: dict[str, Callable[[date], str]] = {
    "dots": lambda d: f"{d.day}.{d.month}.{d.year}",
    "slashes": lambda d: f"{d.day:02}/{d.month:02}/{d.year}",
    "roman": lambda d: f"{d.day}.{ROMAN[d.month - 1]}.{d.year}",
    "short": lambda d: f"{d.day}-{_month(d)[:3]}-{d.year}",
    "plain": lambda d: f"{d.day} {_month(d)} {d.year}",
    "american": lambda d: f"{_month(d)} {d.day}, {d.year}",
    "ordinal": lambda d: f"the {ordinal(d.day)} of {_month(d)} {d.year}",
    "american ordinal": lambda d: f"{_month(d)} {ordinal(d.day)}, {d.year}",
    "year first": lambda d: f"{d.year}, {_month(d)} the {ordinal(d.day)}",
    "short weekday": lambda d: f"{_weekday(d)[:3]} {_month(d)[:3]} {d.day} {d.year}",
    "weekday": lambda d: f"{_weekday(d)}, {d.day} {_month(d)} {d.year}",
    "half words": lambda d: f"{_month(d)} the {ordinal_in_words(d.day)}, {d.year}",
    "words": lambda d: f"the {ordinal_in_words(d.day)} of {_month(d)} {year_in_words(d.year)}",
    "american words": lambda d: f"{_month(d)} {ordinal_in_words(d.day)}, {year_in_words(d.year)}",
    "weekday words": lambda d: (
        f"on {_weekday(d)} the {ordinal_in_words(d.day)} of {_month(d)} {year_in_words(d.year)}"
    ),
    "formal": lambda d: (
        f"the {ordinal_in_words(d.day)} day of {_month(d)} in the year {year_in_full(d.year)}"
    ),
}  # fmt: skip


def load_dates(*, limit: int | None = None) -> PairSet:
    """Draw the pairs, the same on every machine: 90,000 for training, 5,000 for validation, 5,000 for testing."""
    rng = random.Random(SEED)
    days = [FIRST + timedelta(number) for number in range((LAST - FIRST).days + 1)]
    rng.shuffle(days)
    held_out = round(HELD_OUT * len(days))
    valid, test, train = days[:held_out], days[held_out : 2 * held_out], days[2 * held_out :]
    splits = [draw(part, count, rng) for part, count in ((train, TRAIN), (valid, VALID), (test, TEST))]
    return pair_set("dates", splits, "embedded, drawn here; no date in two splits", embedded=True, limit=limit)


def draw(days: list[date], count: int, rng: random.Random) -> Pairs:
    """Draw a number of different pairs, each a date and a format."""
    names = list(FORMATS)
    chosen = rng.sample(range(len(days) * len(names)), count)
    drawn = [(days[number // len(names)], names[number % len(names)]) for number in chosen]
    return Pairs(
        sources=[FORMATS[name](day) for day, name in drawn],
        targets=[day.isoformat() for day, _ in drawn],
        kinds=[name for _, name in drawn],
    )
