"""Questions about short stories: generated ones (`simulated_stories.py`), and the files of the bAbI tasks.

bAbI (Weston et al. 2015, CC BY 3.0) has twenty tasks with 1,000 questions to train and 1,000 to test. Each line of a
file has a number, which starts again from 1 with each story. A question is followed by its answer and the numbers of
its supporting statements, separated by tabs; an answer of several words has commas between them:

    1 Mary went to the kitchen.
    2 Mary took the milk.
    3 Where is the milk?<TAB>kitchen<TAB>2 1

Both layouts are read, gzipped or not, from DATA_DIR:

    babi/en/qa1_..._train.txt ... qa20_..._test.txt    one file for each task and split (also tasks_1-20_v1-2/en)
    babi/all_shuffled_train.txt, all_shuffled_test.txt  all tasks; the task follows from the words of a story
"""

import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from common.config import require
from common.data import archives, published
from common.data.source import DataCard, DataUnavailable, data_dir, sha256_of_lines
from common.data.text import simulated_stories

StoriesName = Literal["stories", "babi"]

SEED = 20_261_130
TRAIN, VALID, TEST = 10_000, 200, 400
"""Generated questions of each task."""
BABI_VALID = 0.1
"""Share of bAbI's training stories that is held out to validate, as in Sukhbaatar et al. 2015."""
SPLIT_SEED = 0
BABI_LIMIT = 1 << 26
"""Bytes that a gzipped file may unpack to: twenty times those of the largest, of all tasks."""
BABI_FOLDERS = ("babi/en", "babi", "babi/tasks_1-20_v1-2/en", "tasks_1-20_v1-2/en")
BABI_TASKS = (
    *("single supporting fact", "two supporting facts", "three supporting facts", "two-argument relations"),
    *("three-argument relations", "yes/no questions", "counting", "lists", "simple negation", "indefinite knowledge"),
    *("basic coreference", "conjunction", "compound coreference", "time reasoning", "basic deduction"),
    *("basic induction", "positional reasoning", "size reasoning", "path finding", "agent's motivations"),
)
SHOWN = 60
"""Characters of a malformed line that an error quotes."""


@dataclass(frozen=True)
class Question:
    """A question about a story."""

    story: tuple[str, ...]
    """Statements in the order of time."""
    text: str
    answer: str
    """A word, or several with commas between them."""
    supporting: tuple[int, ...]
    """Numbers, from 0, of the statements from which the answer follows."""
    task: str = ""
    """Name of the task: place, or task_1."""


@dataclass(frozen=True)
class StorySet:
    """Questions in three splits. Choose on `valid`; read `test` once, last."""

    card: DataCard
    tasks: dict[str, str]
    """Name and description of each task."""
    train: list[Question]
    valid: list[Question]
    test: list[Question]
    chance: dict[str, float]
    """Expected accuracy, in each task, of the best answer to a question without its story; empty if not known."""


def load_stories(name: StoriesName = "stories", *, limit: int | None = None) -> StorySet:
    """Load questions by name; a limit takes questions at equal distances from each split, and generates no others.

    Raises DataUnavailable if bAbI is not on disk, ValueError, naming file and line, for a malformed file.
    """
    if name == "stories":
        source, tasks = "embedded, generated here", simulated_stories.TASKS
        splits = draw_splits(*(min(count, -(-(limit or sys.maxsize) // len(tasks))) for count in (TRAIN, VALID, TEST)))
    else:
        tasks = {f"task_{number}": title for number, title in enumerate(BABI_TASKS, start=1)}
        train, test, source = read_babi(data_dir())
        kept, held_out = hold_out(train)
        splits = [kept, held_out, [question for story in test for question in story]]
    lines = ("\t".join((*q.story, q.text, q.answer)) for split in splits for q in split)
    sha256 = sha256_of_lines(lines)
    train, valid, test = (_thin(split, limit) for split in splits)
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test questions of {len(tasks)} tasks, {source}"
    if name == "stories":
        card = DataCard(name, True, sha256, sizes)
        return StorySet(card, tasks, train, valid, test, simulated_stories.CHANCE)
    counts = {"train questions": len(splits[0]) + len(splits[1]), "test questions": len(splits[2])}
    return StorySet(published.card(name, sha256, sizes, counts), tasks, train, valid, test, {})


def _thin(questions: list[Question], limit: int | None) -> list[Question]:
    """Take questions at equal distances: the test files are in the order of the tasks."""
    if limit is None or limit >= len(questions):
        return [*questions]
    return [questions[number * len(questions) // limit] for number in range(limit)]


# Generated stories.


@lru_cache(maxsize=1)
def draw_splits(train: int, valid: int, test: int) -> list[list[Question]]:
    """Generate splits with these numbers of questions per task, the same on every machine; no two are the same."""
    rng = random.Random(SEED)
    seen: set[tuple[tuple[str, ...], str]] = set()
    return [_draw(count, rng, seen) for count in (test, valid, train)][::-1]  # more for training change no test


def _draw(count: int, rng: random.Random, seen: set[tuple[tuple[str, ...], str]]) -> list[Question]:
    questions: list[Question] = []
    for task in simulated_stories.TASKS:
        wanted = len(questions) + count
        while len(questions) < wanted:
            story, asked = simulated_stories.draw(task, rng)
            if (story, asked.text) not in seen:
                seen.add((story, asked.text))
                questions.append(Question(story, asked.text, asked.answer, asked.supporting, task))
    rng.shuffle(questions)
    return questions


# The files of bAbI.

Story = list[Question]
"""All questions about one story; a later one is about more statements."""


def read_babi(home: Path) -> tuple[list[Story], list[Story], str]:
    """Read the training and test stories of bAbI from a data folder, and say from where.

    Raises DataUnavailable if there are none, ValueError if some files are missing or malformed.
    """
    for folder in (home / name for name in BABI_FOLDERS):
        if any(folder.glob("qa*_*_train.txt*")):
            return _read_tasks(folder, "train"), _read_tasks(folder, "test"), f"from {folder}"
    paths = [_existing(home / "babi" / f"all_shuffled_{split}.txt") for split in ("train", "test")]
    if not any(paths):
        raise DataUnavailable(
            f"the bAbI tasks are not in {home / 'babi'}: put qa1_single-supporting-fact_train.txt and the other files "
            "of tasks_1-20_v1-2/en there, or take the generated stories: --data stories"
        )
    if not all(paths):
        raise ValueError(f"{home / 'babi'} holds only one of all_shuffled_train.txt and all_shuffled_test.txt")
    train, test = ([_with_task(story, path) for story in read_file(path)] for path in paths if path)
    return train, test, f"from {home / 'babi'}"


def _existing(path: Path) -> Path | None:
    """Find a file, gzipped or not."""
    return next((found for found in (path, path.with_name(f"{path.name}.gz")) if found.is_file()), None)


def _read_tasks(folder: Path, split: str) -> list[Story]:
    """Read the files of the twenty tasks."""
    stories: list[Story] = []
    for number in range(1, len(BABI_TASKS) + 1):
        paths = sorted(path for end in ("txt", "txt.gz") for path in folder.glob(f"qa{number}_*_{split}.{end}"))
        if not paths:
            raise ValueError(f"{folder} has no qa{number}_*_{split}.txt: all twenty tasks are needed")
        stories += [[replace(question, task=f"task_{number}") for question in story] for story in read_file(paths[0])]
    return stories


def _with_task(story: Story, path: Path) -> Story:
    try:
        number = identify_task(story)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return [replace(question, task=f"task_{number}") for question in story]


def read_file(path: Path) -> list[Story]:
    """Read the stories of a file in bAbI's line format.

    Raises ValueError, naming file and line, for a line of another form.
    """
    try:
        text = archives.read_bytes(path, limit=BABI_LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start:,} cannot be decoded") from error
    stories: list[Story] = []
    statements: dict[int, str] = {}  # of the present story, by line number
    previous = 0
    for line, content in _lines(text):
        number, _, body = content.partition(" ")
        fields = [part.strip() for part in body.split("\t")]
        try:
            require(number.isdecimal() and bool(fields[0]), "a line is a number, a space and a text", content[:SHOWN])
            following = f"1 or {previous + 1}" if previous else "1"
            require(int(number) in (1, previous + 1), f"its number must be {following}", number)
            if number == "1":
                stories.append([])
                statements = {}
            previous = int(number)
            if len(fields) == 1:
                statements[previous] = fields[0]
            else:
                stories[-1].append(_question(fields, statements))
        except ValueError as error:
            raise ValueError(f"{path} line {line}: {error}") from error
    if not any(stories):
        raise ValueError(f"{path} holds no questions")
    return [story for story in stories if story]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty with their numbers in the file."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _question(fields: Sequence[str], statements: dict[int, str]) -> Question:
    """Parse a question: its text, the answer, and the line numbers of supporting statements of the same story."""
    rule = "a question has three fields with a tab between them: text, answer, numbers of supporting statements"
    require(len(fields) == 3 and bool(fields[1]), rule, "\t".join(fields)[:SHOWN])
    text, answer, facts = fields
    require(bool(statements), "a question needs a statement before it", text[:SHOWN])
    places = {number: place for place, number in enumerate(statements)}
    for fact in facts.split():
        known = fact.isdecimal() and int(fact) in places
        require(known, "a supporting statement is given by the number of an earlier statement of the story", fact)
    return Question(tuple(statements.values()), text, answer, tuple(places[int(fact)] for fact in facts.split()))


def hold_out(stories: list[Story]) -> tuple[list[Question], list[Question]]:
    """Split stories at random into training and validation questions; all questions of a story stay together."""
    order = list(range(len(stories)))
    random.Random(SPLIT_SEED).shuffle(order)
    held_out = round(BABI_VALID * len(stories))
    require(held_out > 0, "a tenth of the training stories is held out, so there must be some more", len(stories))
    valid, train = order[:held_out], order[held_out:]
    return [q for n in train for q in stories[n]], [q for n in valid for q in stories[n]]


QUESTION_FORMS = (
    (r"how do you go from", 19),
    (r"how many objects", 7),
    (r"what is \w+ carrying", 8),
    (r"what colou?r is", 16),
    (r"what is \w+ afraid of", 15),
    (r"why did|where will", 20),
    (r"who (gave|received|did)|what did", 5),
    (r"does the .* fit|is the .* bigger than", 18),
    (r"is the", 17),
    (r"what is", 4),
    (r"where was the", 3),
    (r"where was", 14),
    (r"where is the", 2),
)
"""Beginning of a question that only one of the remaining tasks has."""


def identify_task(story: Story) -> int:
    """Return the number of a story's bAbI task, which follows from the words of its question and statements.

    Raises ValueError if it has none of the forms of the twenty tasks.
    """
    question, statements = story[-1].text.lower(), " ".join(story[-1].story).lower()
    for form, number in QUESTION_FORMS:
        if re.match(form, question):
            return number
    if question.startswith("is "):
        if re.search(r"\b(either|bill|fred|julie)\b", statements):  # task 9 has other names
            return 10
        return 9 if re.search(r"\bis (in|not in|no longer in)\b", statements) else 6
    if question.startswith("where is"):
        if re.search(r"\bthey\b", statements):
            return 13
        if re.search(r"\b(he|she)\b", statements):
            return 11
        return 12 if " and " in statements else 1
    raise ValueError(f"{story[-1].text!r} is a question of none of the twenty tasks")
