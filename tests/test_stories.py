"""Generated stories, checked by an interpreter of their sentences, and the files of the bAbI tasks."""

import gzip
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.source import DataUnavailable
from common.data.text import simulated_stories, stories
from common.data.text.simulated_stories import CHANCE, NUMBERS, OBJECTS, PEOPLE, PLACES, TASKS
from common.data.text.stories import BABI_TASKS, Question, identify_task, load_stories, read_file
from conftest import REAL_DATA_DIR

TRAIN = 400
"""Training questions per task, fewer than by default."""


@pytest.fixture(scope="module")
def generated():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stories, "TRAIN", TRAIN)
        return load_stories()


def words_of(text):
    return set(re.findall(r"\w+", text))


def interpret(statements, question):
    """Answer a question by reading the statements; independent of the simulation that generated them."""
    place, holder, lying, gifts, visits = {}, {}, {}, [], {}
    for text in statements:
        words = words_of(text)
        (person, *_) = re.findall(r"\w+", text)
        places, objects = words & set(PLACES), words & set(OBJECTS)
        if "longer" in words or "left" in words:
            place[person] = f"not {places.pop()}"
        elif places:
            place[person] = places.pop()
            visits.setdefault(person, []).append(place[person])
        elif words & {"gave", "handed"}:
            (name,), receiver = objects, re.findall(r"\w+", text)[-1]
            holder[name] = receiver
            gifts.append((person, name, receiver))
        elif words & {"took", "picked", "grabbed"}:
            holder[objects.pop()] = person
        else:
            (name,) = objects
            holder.pop(name, None)
            lying[name] = place.get(person)
    asked = re.findall(r"\w+", question)
    people, objects, places = ([w for w in asked if w in group] for group in (PEOPLE, OBJECTS, PLACES))
    if question.startswith("Where is the"):
        return place[holder[objects[0]]] if objects[0] in holder else lying[objects[0]]
    if question.startswith("Where is"):
        return place[people[0]]
    if question.startswith("Where was"):
        order = visits[people[0]]
        return order[order.index(places[0]) - 1]
    if question.startswith("Who gave"):
        return one(giver for giver, name, receiver in gifts if (name, receiver) == (objects[0], people[0]))
    if question.startswith("Who got"):
        return one(receiver for giver, name, receiver in gifts if (name, giver) == (objects[0], people[0]))
    if question.startswith("What did"):
        return one(name for giver, name, receiver in gifts if [giver, receiver] == people)
    if question.startswith("Is"):
        known = place[people[0]]
        if known.startswith("not "):
            assert known == f"not {places[0]}", "nothing else is known of this person's place"
            return "no"
        return "yes" if known == places[0] else "no"
    held = sorted(name for name, person in holder.items() if person == people[0])
    return NUMBERS[len(held)] if question.startswith("How many") else ",".join(held) or "nothing"


def one(found):
    (only,) = found
    return only


def test_answers_follow_from_the_stories_and_from_the_supporting_facts_alone(generated):
    for split in (generated.train, generated.valid, generated.test):
        for q in split:
            assert interpret(q.story, q.text) == q.answer
            facts = [q.story[number] for number in sorted(q.supporting)]
            assert interpret(facts, q.text) == q.answer, q


def test_every_task_has_its_share_and_no_question_is_in_two_splits(generated):
    sizes = (TRAIN, stories.VALID, stories.TEST)
    seen = Counter()
    for size, split in zip(sizes, (generated.train, generated.valid, generated.test), strict=True):
        assert Counter(q.task for q in split) == dict.fromkeys(TASKS, size)
        seen.update((q.story, q.text) for q in split)
    assert max(seen.values()) == 1
    assert generated.card.embedded and generated.card.name == "stories"


def test_stories_are_the_same_each_time_and_a_limit_generates_fewer(monkeypatch):
    monkeypatch.setattr(stories, "TRAIN", 20)
    first = load_stories()
    stories.draw_splits.cache_clear()
    second, few = load_stories(), load_stories(limit=5)
    assert first == second
    assert first.card.sha256 == second.card.sha256 != few.card.sha256
    assert stories.draw_splits.cache_info().misses == 2
    assert [len(split) for split in stories.draw_splits(1, 1, 1)] == [7, 7, 7], "one per task, of which five are taken"
    assert few.card.description.startswith("5 train, 5 valid, 5 test questions of 7 tasks, embedded, generated here")


def test_the_world_of_a_story_is_consistent(generated):
    """Nobody goes where they are, takes what another has, or loses what they do not have."""
    for q in generated.train:
        place, holder, lying = {}, {}, {}
        for text in q.story:
            first, *rest = re.findall(r"\w+", text)
            named = (
                [w for w in rest if w in PLACES],
                [w for w in rest if w in OBJECTS],
                [w for w in rest if w in PEOPLE],
            )
            if "longer" in text or "left" in text:
                assert place.pop(first) == named[0][0]
            elif named[0]:
                assert place.get(first) != named[0][0]
                place[first] = named[0][0]
            elif named[2]:
                assert holder[named[1][0]] == first != named[2][0]
                holder[named[1][0]] = named[2][0]
                assert len({place[person] for person in (first, named[2][0]) if person in place}) <= 1
            elif re.search("dropped|put down", text):
                assert holder.pop(named[1][0]) == first
                lying[named[1][0]] = place.get(first)
            else:
                assert named[1][0] not in holder
                if lying.get(named[1][0]) and first in place:
                    assert lying[named[1][0]] == place[first]
                holder[named[1][0]] = first


def test_chance_is_the_accuracy_of_the_best_guess_without_the_story():
    """Renaming people, places and objects changes no probability."""
    rng = random.Random(1)
    for task, expected in CHANCE.items():
        drawn = [simulated_stories.draw(task, rng)[1] for _ in range(3_000)]
        answers = {}
        for asked in drawn:
            answers.setdefault(asked.text, Counter())[asked.answer] += 1
        best = sum(counter.most_common(1)[0][1] for counter in answers.values()) / len(drawn)
        assert best > expected - 0.03, task
        assert best < expected + 0.12, f"{task}: chosen on the same questions, the best guess gains a little"
        rates = Counter(re.sub("|".join((*PEOPLE, *PLACES, *OBJECTS)), "X", asked.answer) for asked in drawn)
        if task == "counting":
            assert all(abs(rates[number] / 3_000 - 1 / 4) < 0.03 for number in NUMBERS)
        if task == "list":
            assert all(abs(rates[form] / 3_000 - 1 / 3) < 0.03 for form in ("nothing", "X", "X,X"))


def test_a_limit_takes_questions_of_all_tasks(monkeypatch):
    monkeypatch.setattr(stories, "TRAIN", 20)
    data = load_stories(limit=70)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [70, 70, 70]
    assert set(Counter(q.task for q in data.test)) == set(TASKS)
    ten = [Question(("a",), "b?", str(number), ()) for number in range(10)]
    assert [q.answer for q in stories._thin(ten, 4)] == ["0", "2", "5", "7"]
    assert stories._thin(ten, 20) == stories._thin(ten, None) == ten


# The files of bAbI.

LINES = """1 Mary moved to the hallway.
2 Mary took the football there.
3 Where is the football? \thallway\t2 1
4 Daniel went to the office.
5 What is Mary carrying? \tfootball\t2
1 John is in the park.
2 How do you go from here to there?\ts,s\t1
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_a_file_is_read_line_by_line(tmp_path):
    first, second = read_file(write(tmp_path / "a.txt", LINES))
    hallway = ("Mary moved to the hallway.", "Mary took the football there.")
    assert first == [
        Question(hallway, "Where is the football?", "hallway", (1, 0)),
        Question((*hallway, "Daniel went to the office."), "What is Mary carrying?", "football", (1,)),
    ]
    assert second == [Question(("John is in the park.",), "How do you go from here to there?", "s,s", (0,))]


def test_gzip_ends_of_lines_and_a_byte_order_mark_make_no_difference(tmp_path):
    expected = read_file(write(tmp_path / "a.txt", LINES))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode()))
    assert read_file(tmp_path / "a.txt.gz") == expected
    assert read_file(write(tmp_path / "b.txt", LINES + "\n\n")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path} holds no questions"),
        ("1 Mary is here.\n", "{path} holds no questions"),
        ("Mary is here.\n", "{path} line 1: a line is a number, a space and a text, got Mary is here."),
        ("1\n", "{path} line 1: a line is a number, a space and a text, got 1"),
        ("2 Mary is here.\n", "{path} line 1: its number must be 1, got 2"),
        ("1 Mary is here.\n\n3 John is here.\n", "{path} line 3: its number must be 1 or 2, got 3"),
        ("1 a.\n2 b?\tyes\n", "{path} line 2: a question has three fields with a tab between them"),
        ("1 a.\n2 b?\t\t1\n", "{path} line 2: a question has three fields with a tab between them"),
        ("1 a.\n2 b?\tyes\t1\t1\n", "{path} line 2: a question has three fields with a tab between them"),
        ("1 b?\tyes\t\n", "{path} line 1: a question needs a statement before it, got b?"),
        (
            "1 a.\n2 b?\tyes\t3\n",
            "{path} line 2: a supporting statement is given by the number of an earlier statement",
        ),
        ("1 a.\n2 b?\tyes\t1\n3 c?\tno\t2\n", "{path} line 3: a supporting statement is given by the number"),
        ("1 a.\n2 b?\tyes\tone\n", "an earlier statement of the story, got one"),
        ("1 a.\n2 b?\tyes\t-1\n", "an earlier statement of the story, got -1"),
        ("1 a.\n² b?\tyes\t1\n", "{path} line 2: a line is a number, a space and a text, got ² b?"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, text, message):
    path = write(tmp_path / "a.txt", text)
    with pytest.raises(ValueError, match=re.escape(message.format(path=path))) as error:
        read_file(path)
    assert "\n" not in str(error.value)


def test_a_broken_encoding_and_a_large_file_are_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"1 caf\xe9\n")
    with pytest.raises(ValueError, match="is not UTF-8: byte 5 cannot be decoded"):
        read_file(tmp_path / "a.txt")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(LINES.encode()))
    monkeypatch.setattr(stories, "BABI_LIMIT", 100)
    with pytest.raises(ValueError, match="unpacks to more than 100 bytes"):
        read_file(tmp_path / "a.txt.gz")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(LINES.encode())[:40])
    with pytest.raises(ValueError, match="is a corrupt gzip file"):
        read_file(tmp_path / "a.txt.gz")


word = st.from_regex(r"[A-Za-z][a-z']{0,6}", fullmatch=True)
sentence = st.lists(word, min_size=1, max_size=5).map(" ".join)


@settings(max_examples=40)
@given(st.lists(st.lists(st.tuples(sentence, st.none() | word), min_size=1, max_size=6), min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path_factory, written):
    lines, expected = [], []
    for story in written:
        statements, questions, numbers = [], [], []
        for number, (text, answer) in enumerate([("it begins", None), *story, ("and then", "x")], start=1):
            if answer is None:
                statements.append(text)
                numbers.append(number)
                lines.append(f"{number} {text}")
            else:
                lines.append(f"{number} {text}\t{answer}\t{numbers[-1]} {numbers[0]}")
                questions.append(Question(tuple(statements), text, answer, (len(numbers) - 1, 0)))
        expected.append(questions)
    path = write(tmp_path_factory.mktemp("babi") / "a.txt", "\n".join(lines))
    assert read_file(path) == expected


EXAMPLES = {
    1: ("Mary went to the hallway.", "Where is Mary?"),
    2: ("Mary got the milk there.", "Where is the milk?"),
    3: ("Mary got the milk.", "Where was the milk before the office?"),
    4: ("The hallway is east of the bathroom.", "What is the bathroom east of?"),
    5: ("Fred gave the football to Jeff.", "Who did Fred give the football to?"),
    6: ("Mary got the milk there.", "Is John in the kitchen?"),
    7: ("Mary got the milk there.", "How many objects is Mary carrying?"),
    8: ("Mary got the milk there.", "What is Mary carrying?"),
    9: ("John is in the hallway.", "Is John in the bedroom?"),
    10: ("Bill is either in the school or the park.", "Is Bill in the park?"),
    11: ("John went to the hallway. After that he went to the garden.", "Where is John?"),
    12: ("John and Mary travelled to the hallway.", "Where is Mary?"),
    13: ("John and Mary went to the hallway. Then they went to the bathroom.", "Where is John?"),
    14: ("This morning Mary moved to the kitchen.", "Where was Mary before the cinema?"),
    15: ("Wolves are afraid of mice.", "What is emily afraid of?"),
    16: ("Lily is a swan.", "What color is Brian?"),
    17: ("The triangle is above the red square.", "Is the pink rectangle below the red square?"),
    18: ("The box fits inside the chest.", "Does the box fit in the chocolate?"),
    19: ("The garden is west of the bathroom.", "How do you go from the bathroom to the hallway?"),
    20: ("Jason is thirsty.", "Where will jason go?"),
}


def test_a_task_is_identified_by_its_words():
    for number, (story, text) in EXAMPLES.items():
        assert identify_task([Question((story,), text, "x", ())]) == number
    assert identify_task([Question(("The box is big.",), "Is the chest bigger than the box?", "no", ())]) == 18
    with pytest.raises(ValueError, match="'Who are you\\?' is a question of none of the twenty tasks"):
        identify_task([Question(("a",), "Who are you?", "x", ())])


def write_tasks(folder, stories_of_a_task=12, end=""):
    for number, (story, text) in EXAMPLES.items():
        for split in ("train", "test"):
            body = "".join(f"1 {story}\n2 {text}\t{split}\t1\n" for _ in range(stories_of_a_task))
            path = folder / f"qa{number}_some-name_{split}.txt{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(body.encode()) if end else body.encode())


@pytest.mark.parametrize("name", stories.BABI_FOLDERS)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_the_usual_layout_is_read(tmp_path, name, end):
    write_tasks(tmp_path / "data" / name, end=end)
    data = load_stories("babi")
    assert data.card.published == "babi" and not data.card.embedded
    assert data.card.name == "babi (partial: 240 of 20,000 train questions)"
    assert (len(data.train), len(data.valid), len(data.test)) == (216, 24, 240)
    assert Counter(q.task for q in data.test) == {f"task_{number}": 12 for number in range(1, 21)}
    assert data.tasks["task_3"] == BABI_TASKS[2] == "three supporting facts"
    assert {q.answer for q in data.train + data.valid} == {"train"}
    assert data.chance == {}


def test_the_shuffled_layout_is_read_and_its_tasks_are_identified(tmp_path):
    for split in ("train", "test"):
        lines = "".join(f"1 {story}\n2 {text}\t{split}\t1\n" for story, text in EXAMPLES.values())
        write(tmp_path / "data" / "babi" / f"all_shuffled_{split}.txt", lines)
    data = load_stories("babi")
    assert [q.task for q in data.test] == [f"task_{number}" for number in EXAMPLES]
    assert (len(data.train), len(data.valid)) == (18, 2)
    (tmp_path / "data" / "babi" / "all_shuffled_test.txt").unlink()
    with pytest.raises(ValueError, match=r"holds only one of all_shuffled_train\.txt and all_shuffled_test\.txt"):
        load_stories("babi")
    write(tmp_path / "data" / "babi" / "all_shuffled_test.txt", "1 a.\n2 Who are you?\tme\t1\n")
    with pytest.raises(ValueError, match=r"all_shuffled_test\.txt: 'Who are you\?' is a question of none"):
        load_stories("babi")


def test_absent_and_incomplete_sets_say_what_to_do(tmp_path):
    with pytest.raises(DataUnavailable, match=r"or take the generated stories: --data stories"):
        load_stories("babi")
    write_tasks(tmp_path / "data" / "babi" / "en")
    (tmp_path / "data" / "babi" / "en" / "qa7_some-name_test.txt").unlink()
    with pytest.raises(ValueError, match=r"has no qa7_\*_test\.txt: all twenty tasks are needed"):
        load_stories("babi")


def test_a_few_stories_cannot_be_split(tmp_path):
    (only,) = read_file(write(tmp_path / "a.txt", "1 a.\n2 b?\tyes\t1\n"))
    with pytest.raises(
        ValueError, match="a tenth of the training stories is held out, so there must be some more, got 1"
    ):
        stories.hold_out([only])


def test_held_out_stories_stay_together(tmp_path):
    lines = "".join(f"1 s{n}.\n2 a?\tyes\t1\n3 t{n}.\n4 b?\tno\t3\n" for n in range(20))
    train, valid = stories.hold_out(read_file(write(tmp_path / "a.txt", lines)))
    assert (len(train), len(valid)) == (36, 4)
    assert not {q.story[0] for q in train} & {q.story[0] for q in valid}


have_babi = (REAL_DATA_DIR / "babi" / "all_shuffled_test.txt.gz").exists()


@pytest.mark.skipif(not have_babi, reason="the bAbI tasks are not in DATA_DIR")
@pytest.mark.usefixtures("real_data")
def test_the_tasks_of_the_published_questions_are_identified():
    """The shuffled test file has blocks of 1,000 questions in the alphabetical order of the original file names."""
    data = load_stories("babi")
    assert data.card.name == "babi"
    order = sorted(range(1, 21), key=lambda number: f"qa{number}_")
    assert order[:3] + order[-2:] == [10, 11, 12, 8, 9]
    assert [q.task for q in data.test] == [f"task_{order[place // 1_000]}" for place in range(20_000)]
    assert Counter(q.task for q in data.train + data.valid) == {f"task_{number}": 1_000 for number in range(1, 21)}
