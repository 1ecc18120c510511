"""Check of exercise 2: find the bug: the key of a cached result."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from common.exercises.exercise import Arguments, Case, Exercise

Job = tuple[dict[str, Any], dict[str, str]]
Key = Callable[[dict[str, Any], dict[str, str]], str]


def compare_keys(key: Key, arguments: Arguments) -> str:
    """Tell whether both jobs have the same key."""
    one, other = (key(*arguments[name]) for name in ("job", "other"))
    if not isinstance(one, str):
        return f"a key of the type {type(one).__name__}"
    return "the same key" if one == other else "different keys"


def complete(parameters: dict[str, Any], inputs: dict[str, str]) -> str:
    """Expected key: the sorted names with the representations of their values."""
    return repr((sorted((name, repr(value)) for name, value in parameters.items()), sorted(inputs.items())))


def jobs(job: Job, other: Job) -> Arguments:
    """Arguments of a comparison."""
    return {"job": job, "other": other}


def joined(parameters: dict[str, Any], inputs: dict[str, str]) -> str:
    """Typical mistake: names and values without separators, in the given order."""
    return "".join(f"{name}{value}" for name, value in [*parameters.items(), *inputs.items()])


def sorted_and_joined(parameters: dict[str, Any], inputs: dict[str, str]) -> str:
    """Typical mistake: names and values without separators."""
    return joined(dict(sorted(parameters.items())), dict(sorted(inputs.items())))


def in_given_order(parameters: dict[str, Any], inputs: dict[str, str]) -> str:
    """Typical mistake: the order matters."""
    return json.dumps([parameters, inputs])


def texts(parameters: dict[str, Any], inputs: dict[str, str]) -> str:
    """Typical mistake: a number and its text are the same."""
    return json.dumps([{name: str(value) for name, value in parameters.items()}, inputs], sort_keys=True)


def sample_jobs(generator: Random, size: int) -> Arguments:
    """Two random jobs, often the same one in another order."""

    def job() -> Job:
        parameters = {generator.choice(["a", "b", "ab"]): generator.choice([1, "1", 11, [1]]) for _ in range(size)}
        inputs = {generator.choice(["a", "b", "ab"]): generator.choice(["", "a", "b", "1"]) for _ in range(size)}
        return parameters, inputs

    one = job()
    same = (dict(reversed(one[0].items())), dict(reversed(one[1].items())))
    return jobs(one, same if generator.random() < 0.3 else job())


CACHE_KEY = Exercise(
    file="ex2_cache_key",
    function="cache_key",
    reference=complete,
    call=compare_keys,
    outcome="the jobs have",
    cases=(
        Case(jobs(({"epochs": 1}, {}), ({"epochs": 1}, {})), "the same job"),
        Case(jobs(({"epochs": 1}, {}), ({"epochs": 2}, {})), "another parameter"),
        Case(jobs(({}, {"data": "a"}), ({}, {"data": "b"})), "another content"),
        Case(jobs(({}, {"train": "a"}), ({}, {"test": "a"})), "another name of the input"),
        Case(jobs(({"a": 12}, {}), ({"a1": 2}, {})), "where does the name end, where does the value begin?"),
        Case(jobs(({"a": 1, "b": 2}, {}), ({"b": 2, "a": 1}, {})), "the same parameters in another order"),
        Case(jobs(({}, {"x": "a", "y": "b"}), ({}, {"y": "b", "x": "a"})), "the same inputs in another order"),
        Case(jobs(({"a": 1}, {}), ({"a": "1"}, {})), "a number is not a text"),
        Case(jobs(({"a": "b"}, {}), ({}, {"a": "b"})), "a parameter is not an input"),
    ),
    sample=sample_jobs,
    hint="`json.dumps(value, sort_keys=True)` writes names and values so that they can be read back.",
    mistakes={
        "names and values must be separated, and the order must not matter": joined,
        "names and values must be separated, so that the text can belong to one job only": sorted_and_joined,
        "the order of the names must not matter: sort them": in_given_order,
        "the parameters are missing in the key": lambda parameters, inputs: complete({}, inputs),  # noqa: ARG005
        "the names of the inputs are missing in the key": lambda parameters, inputs: (
            complete(parameters, {}) + repr(sorted(inputs.values()))
        ),
        "the number 1 and the text '1' are different parameters": texts,
    },
)
