"""Check of exercise 5: find the bug: a stage that keeps old results."""

from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Texts = dict[str, str]
Counts = dict[str, int]


def first_run(inputs: Texts, folder: Counts) -> Counts:  # noqa: ARG001
    """Expected results: count line breaks, and a last line without one."""
    return {name: text.count("\n") + (not text.endswith("\n") and bool(text)) for name, text in inputs.items()}


def skipping(inputs: Texts, folder: Counts) -> Counts:
    """Typical mistake: keep whatever is in the folder."""
    return first_run(inputs, {}) | folder


def without_cleaning(inputs: Texts, folder: Counts) -> Counts:
    """Typical mistake: keep the results of removed files."""
    return folder | first_run(inputs, {})


def without_updates(inputs: Texts, folder: Counts) -> Counts:
    """Typical mistake: keep the results of changed files."""
    return {name: folder.get(name, count) for name, count in first_run(inputs, {}).items()}


def appended(inputs: Texts, folder: Counts) -> Counts:
    """Typical mistake: add to the old results."""
    return {name: folder.get(name, 0) + count for name, count in first_run(inputs, {}).items()}


def in_order_of_names(results: Counts) -> Counts:
    """Sort results by name, because the order of the files does not matter."""
    return dict(sorted(results.items())) if isinstance(results, dict) else results


def sample_files(generator: Random, size: int) -> Arguments:
    """Random files and old results."""
    names = [f"batch-{number}" for number in range(size)]
    inputs = {name: "x\n" * generator.randint(0, 3) for name in names if generator.random() < 0.7}
    return {"inputs": inputs, "folder": {name: generator.randint(0, 3) for name in names if generator.random() < 0.7}}


STAGE = Exercise(
    file="ex5_stage",
    function="prepare",
    reference=first_run,
    call=lambda function, arguments: in_order_of_names(function(**arguments)),
    cases=(
        Case({"inputs": {"a": "1\n2\n"}, "folder": {}}, "the first run"),
        Case({"inputs": {"a": "1\n2\n"}, "folder": {"a": 2}}, "the second run has the same result"),
        Case({"inputs": {}, "folder": {"a": 2}}, "the file a was removed, so its result must go as well"),
        Case({"inputs": {"a": "1\n"}, "folder": {"a": 2}}, "the file a has changed, so its result must change as well"),
    ),
    sample=sample_files,
    hint="What would the function return if the folder were empty? Does the folder contain anything that is needed?",
    mistakes={
        "results of removed and of changed files remain: return the results of this run only": skipping,
        "results of removed files remain: return the results of this run only": without_cleaning,
        "results of changed files remain: compute every result again": without_updates,
        "a second run must not add to the results of the first one": appended,
    },
)
