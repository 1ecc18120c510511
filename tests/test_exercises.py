"""Exercises: tasks and solutions of every chapter, the check, the time limit, and the command."""

import contextlib
import dataclasses
import importlib
import os
import re
import runpy
import shutil
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.exercises import check as checking
from common.exercises.arguments import integers, vector
from common.exercises.check import check, check_file
from common.exercises.command import main, progress_of
from common.exercises.compare import agree, error_of, show
from common.exercises.exercise import Case, Exercise, MeasuredExercise, Verdict, read_task
from common.exercises.time_limit import TimeExceeded, time_limit
from conftest import ROOT

CHAPTERS = sorted(path.parent.parent.name for path in ROOT.glob("ch*/exercises/__main__.py"))
EXERCISES = [
    (chapter, exercise)
    for chapter in CHAPTERS
    for exercise in importlib.import_module(f"{chapter}.exercises.checks").EXERCISES
]
every_exercise = pytest.mark.parametrize(
    ("chapter", "exercise"), EXERCISES, ids=lambda value: getattr(value, "file", value)
)
every_exercise_trained = pytest.mark.parametrize(
    ("chapter", "exercise"),
    [
        pytest.param(*pair, marks=pytest.mark.slow) if isinstance(pair[1], MeasuredExercise) else pair
        for pair in EXERCISES
    ],
    ids=lambda value: getattr(value, "file", value),
)


@every_exercise_trained
def test_the_solution_is_right(chapter, exercise):
    verdict = check_file(exercise, ROOT / chapter / "exercises/solutions")
    assert verdict.status == "right", verdict


@every_exercise
def test_the_blank_is_open_and_says_what_to_do(chapter, exercise):
    path = ROOT / chapter / f"exercises/{exercise.file}.py"
    verdict = check_file(exercise, path.parent)
    assert verdict.status == "open"
    if checking.MARK in path.read_text(encoding="utf-8"):  # the function has a bug, and the check finds it
        assert re.match(rf"for .* {exercise.outcome} .*, expected ", verdict.message)
    else:
        assert verdict.message == f"{exercise.function} is not written yet"


@every_exercise
def test_the_task_has_a_title_a_duration_and_the_command(chapter, exercise):
    task = read_task(ROOT / chapter / f"exercises/{exercise.file}.py")
    assert 5 <= task.minutes <= 30
    assert task.text.endswith(f"\n\nCheck: python -m {chapter}.exercises {exercise.number}")
    assert not task.title.endswith(".")


VERDICTS = {}


def verdicts_of_mistakes(exercise):
    """Check the typical mistakes of an exercise once for all tests."""
    if id(exercise) not in VERDICTS:
        found = {explanation: check(exercise, wrong) for explanation, wrong in exercise.mistakes.items()}
        VERDICTS[id(exercise)] = found
    return VERDICTS[id(exercise)]


@every_exercise_trained
def test_mistakes_are_wrong_and_differ_from_each_other(chapter, exercise):
    assert len(exercise.hint) > 40
    assert exercise.mistakes
    for explanation, verdict in verdicts_of_mistakes(exercise).items():
        assert verdict.status == "wrong", explanation
        assert verdict.note == explanation, f"{verdict.note}, expected: {explanation}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_exercises_are_numbered_and_shown_on_the_page(chapter):
    exercises = [exercise for name, exercise in EXERCISES if name == chapter]
    assert [exercise.number for exercise in exercises] == list(range(1, len(exercises) + 1))
    files = {path.stem for path in (ROOT / chapter / "exercises").glob("ex*.py")}
    assert files == {exercise.file for exercise in exercises}
    page = (ROOT / chapter / "README.md").read_text(encoding="utf-8").partition("## Exercises\n")[2]
    assert f"python -m {chapter}.exercises" in page
    for exercise in exercises:
        title = read_task(ROOT / chapter / f"exercises/{exercise.file}.py").title
        assert title.removeprefix("Find the bug: ").lower() in page.lower(), f"{title} is not on the page"
    compared = [exercise for exercise in exercises if not isinstance(exercise, MeasuredExercise)]
    verdicts = [verdict for exercise in compared for verdict in verdicts_of_mistakes(exercise).values()]
    shown = re.findall(r"^wrong    (.+)\nnote     (.+)$", page, re.M)
    assert shown
    assert set(shown) <= {(verdict.message, verdict.note) for verdict in verdicts}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_open_question_has_an_answer(chapter):
    answers = (ROOT / chapter / "exercises/ANSWERS.md").read_text(encoding="utf-8")
    parts = re.split(r"^## \[.+\]\(\.\./(.+\.md)#exercises\)$", answers, flags=re.M)
    answered = {
        page: re.findall(r"^### (\d+)\. ", text, re.M) for page, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    asked = {}
    for page in (ROOT / chapter).glob("*.md"):
        section = page.read_text(encoding="utf-8").partition("\n## Exercises\n")[2]
        if section:
            assert "(exercises/ANSWERS.md" in section, f"{page.name} has no link to the answers"
            asked[page.name] = re.findall(r"^(\d+)\. ", section, re.M)
    assert answered == asked


DOUBLE = Exercise(
    file="ex1_double",
    function="double",
    reference=lambda x: 2 * x,
    cases=(Case({"x": vector(1)}, "one element"), Case({"x": vector(1, 2)}, "two elements")),
    sample=lambda generator, size: {"x": integers(generator, size)},
    sample_note="random numbers",
    hint="Add x to itself.",
    mistakes={"this is the square": lambda x: x * x},
)


def change(x):
    x += x
    return x


def only_short(x):
    return 2 * x if len(x) < 3 else x


def sleeps(x):
    time.sleep(0.03)  # many calls, each of which is short
    return 2 * x


def never_ends(x):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.001)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, "for x = [1.0] you return [1.0], expected [2.0]"),
        (lambda x: None, "for x = [1.0] you return None: is a `return` statement missing?"),
        (lambda x: 2.0, "you return a float, expected a tensor of shape (1,) and dtype float64"),
        (
            lambda x: 2 * x[None],
            "you return a tensor of shape (1, 1) and dtype float64, expected a tensor of shape (1,)",
        ),
        (
            lambda x: 2 * x.float(),
            "you return a tensor of shape (1,) and dtype float32, expected a tensor of shape (1,)",
        ),
        (lambda x: 2 * x * float("nan"), "for x = [1.0] you return [nan], expected [2.0]"),
        (
            lambda x: 2 * x + 1e-7,
            "99998], expected [2.0]: has an intermediate result the dtype float32?",
        ),
        (
            lambda x: x.item() * 2 * x if len(x) == 1 else x[2],
            "for x = [1.0, 2.0] your function raises IndexError: index",
        ),
        (lambda x: exit(), "for x = [1.0] your function raises SystemExit"),
        (lambda z: 2 * z, "the parameters of double must be x"),
        (change, "for x = [1.0] your function changes its argument x in place: return a new value"),
        (only_short, r"for x = \[-?[0-3]\.0, -?[0-3]\.0, -?[0-3]\.0\] you return"),
        (sleeps, "your function exceeds the time limit: 0.5 seconds for all cases"),
        (never_ends, "for x = [1.0] your function exceeds the time limit: 0.5 seconds for all cases"),
    ],
)
def test_a_wrong_function_gets_a_counterexample(function, message, monkeypatch):
    if function in (never_ends, sleeps):
        monkeypatch.setattr(checking, "SECONDS", 0.5)
    verdict = check(DOUBLE, function)
    assert verdict.status == "wrong"
    assert message in verdict.message or re.search(message, verdict.message)


def test_the_smallest_of_the_random_counterexamples_is_shown():
    found = check(DOUBLE, lambda x: 2 * x if len(x) < 3 or bool((x.abs() <= 1).all()) else x)
    assert found.note == "random numbers"
    numbers = [abs(float(number)) for number in re.findall(r"-?\d\.\d", found.message.partition("you")[0])]
    assert len(numbers) == 3
    assert sum(numbers) <= 4


def test_counterexamples_may_contain_nan_and_infinity():
    cases = (Case({"x": vector(float("nan"), float("inf"))}, "not finite"),)
    exercise = dataclasses.replace(DOUBLE, cases=cases, sample=None)
    assert check(exercise, lambda x: x * 0).message == "for x = [nan, inf] you return [nan, nan], expected [nan, inf]"


def test_a_known_mistake_is_explained_and_others_are_not():
    assert check(DOUBLE, lambda x: x**2).note == "this is the square"
    assert check(DOUBLE, lambda x: x).note == "one element"


def test_a_right_function_passes_and_may_be_random_or_need_gradients():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert check(DOUBLE, lambda x: x + (x.requires_grad_() if False else x) + 0 * torch.rand(len(x))).status == "right"
    assert torch.rand(1) == expected, "the check changes the state of torch's generator"
    assert check(DOUBLE, lambda x: 2 * x.clone().requires_grad_()).status == "right"


def test_exceptions_within_a_time_limit_pass_and_time_afterwards_is_free():
    with pytest.raises(KeyError), time_limit(5):
        raise KeyError
    with time_limit(0.01):
        pass
    time.sleep(0.03)
    with pytest.raises(TimeExceeded), time_limit(0.05):
        never_ends(0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def double(x):\n    return 2 * x +\n", "ex1_double.py, line 2: SyntaxError: invalid syntax"),
        ("import no_such_module\n", "ex1_double.py cannot be loaded: ModuleNotFoundError: No module named"),
        ("x = 1 / 0\n", "ZeroDivisionError: division by zero (line 1: x = 1 / 0)"),
        ("def twice(x):\n    return 2 * x\n", "ex1_double.py does not define the function double"),
        ("while True:\n    pass\n", "loading ex1_double.py takes more than 0.2 seconds"),
        ("def double(x):\n    y = 2 * x\n    return y[5]\n", "(line 3: return y[5])"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(source, message, tmp_path, monkeypatch):
    if "while" in source:
        monkeypatch.setattr(checking, "SECONDS", 0.2)
    (tmp_path / "ex1_double.py").write_text(source, encoding="utf-8")
    verdict = check_file(DOUBLE, tmp_path)
    assert verdict.status == "wrong"
    assert message in verdict.message


def test_a_file_in_another_encoding_is_explained(tmp_path):
    (tmp_path / "ex1_double.py").write_bytes("# größer\n".encode("latin-1"))
    assert "ex1_double.py cannot be loaded: UnicodeDecodeError" in check_file(DOUBLE, tmp_path).message
    assert read_task(tmp_path / "ex1_double.py").title == "ex1_double"


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(tmp_path):
    path = tmp_path / "ex1_double.py"
    for factor, status in ((3, "wrong"), (2, "right"), (4, "wrong")):
        path.write_text(f"def double(x):\n    return {factor} * x\n", encoding="utf-8")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        assert check_file(DOUBLE, tmp_path).status == status


def test_a_file_may_define_dataclasses(tmp_path):
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass A:\n    x: int\n"
    )
    (tmp_path / "ex1_double.py").write_text(f"{source}\ndef double(x):\n    return A(2).x * x\n", encoding="utf-8")
    assert check_file(DOUBLE, tmp_path).status == "right"


def test_a_missing_file_is_explained(tmp_path):
    assert check_file(DOUBLE, tmp_path).message == f"{tmp_path / 'ex1_double.py'} does not exist"


def test_a_function_with_a_bug_is_open_until_the_comment_is_deleted(tmp_path):
    path = tmp_path / "ex1_double.py"
    path.write_text("def double(x):\n    # Find the bug, then delete this comment.\n    return x\n", encoding="utf-8")
    assert check_file(DOUBLE, tmp_path).status == "open"
    path.write_text("def double(x):\n    return x\n", encoding="utf-8")
    assert check_file(DOUBLE, tmp_path).status == "wrong"
    path.write_text(
        "def double(x):\n    # Find the bug, then delete this comment.\n    return 2 * x\n", encoding="utf-8"
    )
    assert check_file(DOUBLE, tmp_path).status == "right"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (float("nan"), "nan"),
        (-1e-12, "-1e-12"),
        (torch.tensor([[1.0, 0.5]]), "[[1.0, 0.5]]"),
        (torch.tensor([1, 2]), "[1, 2]"),
        (("+", "x", 1), "('+', 'x', 1)"),
        ((3,), "(3,)"),
        ({"a": 1.0}, "{'a': 1.0}"),
        (torch.zeros(20), "a tensor of shape (20,)"),
        ([0.5] * 100, "a list of 100 elements"),
        (len, "len"),
    ],
)
def test_values_are_shown_as_python_writes_them(value, text):
    assert show(value) == text


def test_results_agree_up_to_the_tolerance():
    assert agree(2.0, 2, 1e-9)
    assert not agree(1.0, True, 1e-9)
    assert not agree(1, 1.0, 1e-9)
    assert agree([1.0, 2.0], [1, 2 + 1e-12], 1e-9)
    assert not agree([1.0], (1.0,), 1e-9)
    assert not agree(vector(1), vector(float("nan")), 1e-9)
    assert agree(vector(float("inf"), 1), vector(float("inf"), 1), 1e-9)
    assert not agree(vector(float("inf")), vector(float("-inf")), 1e-9)
    assert agree(vector(float("nan")), vector(float("nan")), 1e-9)
    assert not agree(vector(float("inf")), vector(1), 1e-9)
    assert not agree(vector(1), vector(float("inf")), 1e-9)
    assert not agree(torch.tensor([1]), torch.tensor([2]), 1e-9)
    large = torch.zeros(4, 5)
    assert error_of(large, large.clone().index_put_((torch.tensor(2), torch.tensor(3)), torch.tensor(1.0)), 1e-6) == (
        "you return 1.0 at index [2, 3], expected 0.0"
    )


numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
results = st.recursive(numbers | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner))


@given(results, numbers)
def test_a_result_agrees_with_itself_and_not_with_another_one(result, number):
    assert error_of(result, result, 1e-9) is None
    assert "expected " in (error_of((result, number), (result, number + 1), 1e-9) or "")
    assert not agree([result], result, 1e-9)


@pytest.fixture
def home(tmp_path):
    """A chapter with two exercises, one solved."""
    home = tmp_path / "ch99_test/exercises"
    (home / "solutions").mkdir(parents=True)
    task = '"""{} (10 minutes)\n\nReturn {}.\n\nCheck: python -m ch99_test.exercises {}\n"""\n\n'
    (home / "ex1_double.py").write_text(
        task.format("Double", "2 x", 1) + "def double(x):\n    print('called')\n    return 2 * x\n", encoding="utf-8"
    )
    (home / "ex2_half.py").write_text(
        task.format("Half", "x / 2", 2) + "def half(x):\n    raise NotImplementedError\n", encoding="utf-8"
    )
    (home / "solutions/ex2_half.py").write_text("def half(x):\n    return x / 2\n", encoding="utf-8")
    return home


HALF = Exercise("ex2_half", "half", lambda x: x / 2, (Case({"x": vector(1)}, "one"),), hint="Divide by two.")


@pytest.fixture
def run(home, capsys):
    """Return a function that runs the command and returns its exit code and output."""

    def run(*words):
        code = 0
        try:
            main((DOUBLE, HALF), home, words)
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out + err

    return run


def test_the_table_shows_the_status_and_what_is_next(run, home):
    code, text = run()
    assert code == 0
    assert re.search(r"1 Double +ex1_double\.py +10 +right", text)
    assert re.search(r"2 Half +ex2_half\.py +10 +open", text)
    assert "solved   1 of 2\nnext     python -m ch99_test.exercises 2\ntime     about 10 minutes for the" in text
    assert "called" not in text, "what the reader's functions print does not belong into the table"
    (home / "ex2_half.py").write_text("def half(x):\n    return x / 3\n", encoding="utf-8")
    text = run()[1]
    assert re.search(r"2 ex2_half +ex2_half\.py +0 +wrong", text)
    assert "next     python -m ch99_test.exercises 2" in text
    (home / "ex2_half.py").write_text("def half(x):\n    return x * 0.5\n", encoding="utf-8")
    code, text = run()
    assert "solved   2 of 2" in text
    assert "next" not in text


def test_one_exercise_is_checked(run, home):
    code, text = run("1")
    assert code == 0
    assert text.endswith("right    62 cases agree with the reference\n")
    code, text = run("2")
    assert code == 1
    assert text.startswith("Half (10 minutes)\n\nReturn x / 2.\n")
    assert "open     half is not written yet\nfile     " in text
    assert "help     python -m ch99_test.exercises 2 --hint" in text
    (home / "ex2_half.py").write_text("def half(x):\n    return x / 3\n", encoding="utf-8")
    code, text = run("1", "2")
    assert code == 1
    assert "wrong    for x = [1.0] you return [0.333333], expected [0.5]\nnote     one\n" in text


def test_hint_and_solution_are_printed_on_request(run):
    assert run("2", "--hint") == (0, "hint     Divide by two.\n")
    code, text = run("2", "--solution")
    assert code == 0
    assert "return x / 2" in text


def test_another_folder_can_be_checked(run, home, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(home, mine)
    (mine / "ex2_half.py").write_text("def half(x):\n    return x / 2\n", encoding="utf-8")
    assert "solved   2 of 2" in run("--folder", str(mine))[1]
    assert "solved   1 of 2" in run()[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["3"], "error: the exercises of ch99_test have the numbers 1 to 2, got 3"),
        (["0"], "error: the exercises of ch99_test have the numbers 1 to 2, got 0"),
        (["two"], "two"),
        (["--hint"], "error: --hint needs the number of one exercise: python -m ch99_test.exercises 1 --hint"),
        (["1", "2", "--solution"], "error: --solution needs the number of one exercise"),
        (["1", "--hint", "--solution"], "give one of --hint and --solution, got both"),
        (["--folder", "nowhere"], "error: --folder nowhere: no such folder"),
        (["--hnt"], "Unrecognized options: --hnt; did you mean --hint?"),
    ],
)
def test_user_errors_are_one_line(run, words, message):
    code, text = run(*words)
    assert code == 2
    assert message in text
    assert text.count("\n") == 1


def test_help_describes_the_command(run):
    code, text = run("--help")
    assert code == 0
    for part in ("--hint", "--solution", "--folder", "ch99_test/exercises/"):
        assert part in text


def test_progress_is_a_value_for_other_programs(home):
    progress = progress_of((DOUBLE, HALF), home)
    assert (progress.solved, progress.remaining, progress.minutes) == (1, [1], 10)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_has_the_command(chapter, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["exercises", "1"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(f"{chapter}.exercises", run_name="__main__")
    assert stop.value.code == 1
    assert f"help     python -m {chapter}.exercises 1 --hint" in capsys.readouterr().out


@pytest.fixture
def measured(home, monkeypatch, tmp_path):
    """A measured exercise: a function whose result must be at least 2."""
    monkeypatch.chdir(tmp_path)

    def measure(function):
        size = function()
        return Verdict("right", f"size {size}", scores={"size": size}) if size >= 2 else Verdict("wrong", "too small")

    path = home / "ex3_size.py"
    path.write_text('"""Size (5 minutes)\n"""\n\n\ndef size():\n    raise NotImplementedError\n', encoding="utf-8")
    order = lambda scores: scores["size"]  # noqa: E731
    exercise = MeasuredExercise(
        file="ex3_size", function="size", measure=measure, order=order, hint="Large.", seconds=0.5
    )

    def write(body):
        path.write_text(f'"""Size (5 minutes)\n"""\n\n\ndef size():\n    {body}\n', encoding="utf-8")

    def command(*words):
        with pytest.raises(SystemExit) if words else contextlib.nullcontext():
            main((DOUBLE, HALF, exercise), home, words)

    return write, command


def test_a_measured_exercise_keeps_its_verdict_and_has_a_leaderboard(measured, capsys):
    write, command = measured
    command("3")
    assert "open     size is not written yet" in capsys.readouterr().out
    for body, message in (("return 5", "right    size 5"), ("return 1", "wrong    too small"), ("return 3", "right")):
        write(body)
        command()
        assert re.search(r"3 Size +ex3_size.py +5 +open", capsys.readouterr().out), "the table must not measure"
        command("3")
        text = capsys.readouterr().out
        assert message in text
        command()
        assert re.search(rf"3 Size +ex3_size.py +5 +{message[:5]}", capsys.readouterr().out)
    places = re.findall(r"^ +(\d) +(\d) +\d{4}-\d\d-\d\d \d\d:\d\d(.*)$", text, re.M)
    assert [(place, size, mark.strip()) for place, size, mark in places] == [("1", "3", "this one"), ("2", "5", "")]


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', '[{"checksum": "a"}]', "["])
def test_a_broken_leaderboard_is_one_line(measured, capsys, content, tmp_path):
    _, command = measured
    board = tmp_path / "runs/ch99_test/exercises/ex3_size.json"
    board.parent.mkdir(parents=True)
    board.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    assert re.fullmatch(r"error: .*ex3_size\.json is not .*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "the measurement raises ZeroDivisionError: division by zero (line 6: return 1 / 0)"),
        ("raise NotImplementedError('no forward')", "NotImplementedError: no forward (line 6"),
        ("while True: pass", "the measurement takes more than 0.5 seconds"),
    ],
)
def test_a_measurement_that_fails_is_explained(measured, capsys, body, message):
    write, command = measured
    write(body)
    command("3")
    assert f"wrong    {message}" in capsys.readouterr().out
