"""Check the reader's function: load its file, call it, find the smallest counterexample."""

import contextlib
import copy
import inspect
import io
import math
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch

from common.exercises.compare import error_of, plain, same, show
from common.exercises.exercise import Arguments, Case, Exercise, MeasuredExercise, Verdict
from common.exercises.time_limit import TimeBudget, TimeExceeded, time_limit

SECONDS = 10.0
"""Time limit of loading a file, and of all calls of its function together."""
SIZES, SAMPLES = range(1, 6), 12
"""Sizes of random arguments, and the number of random arguments of each size."""
MARK = "# Find the bug"
"""Comment in a function with a bug; as long as it is there, a wrong function counts as open."""


class ReaderError(Exception):
    """The file or the function cannot be used; the message says why."""


def check_file(exercise: Exercise, folder: Path) -> Verdict:
    """Load the exercise's file from a folder and check its function."""
    path = folder / f"{exercise.file}.py"
    try:
        with time_limit(SECONDS):
            function = load_function(path, exercise.function)
    except TimeExceeded:
        return Verdict("wrong", f"loading {path.name} takes more than {SECONDS:g} seconds")
    except ReaderError as error:
        return Verdict("wrong", str(error))
    except FileNotFoundError:
        return Verdict("wrong", f"{path} does not exist")
    verdict = check(exercise, function)
    if verdict.status == "wrong" and MARK in path.read_text(encoding="utf-8"):
        return Verdict("open", verdict.message, verdict.note)
    return verdict


def load_function(path: Path, name: str) -> Callable[..., Any]:
    """Execute a file and return its function; raise ReaderError if that fails.

    Python's import is not used: it would take a cached file if two edits in the same second have the same length.
    """
    module = types.ModuleType(f"exercise_{path.stem}")
    sys.modules[module.__name__] = module  # dataclasses look up their module
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        exec(code, vars(module))
    except SyntaxError as error:
        raise ReaderError(f"{path.name}, line {error.lineno}: {type(error).__name__}: {error.msg}") from error
    except FileNotFoundError as error:
        if not path.exists():
            raise
        raise ReaderError(f"{path.name} cannot be loaded: {describe(error, path)}") from error
    except (Exception, SystemExit) as error:
        raise ReaderError(f"{path.name} cannot be loaded: {describe(error, path)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ReaderError(f"{path.name} does not define the function {name}")
    return function


def check(exercise: Exercise, function: Callable[..., Any]) -> Verdict:
    """Compare a function with the reference for all cases and random arguments; return the first counterexample.

    Of the counterexamples among random arguments of the same size, the one with the smallest numbers is returned.
    """
    if isinstance(exercise, MeasuredExercise):
        return measure(exercise, function)
    tried, case, budget = 0, Case({}), TimeBudget(SECONDS)
    try:
        with _same_generators():
            for cases in _groups(exercise):
                wrong = []
                for case in cases:
                    message = _try(exercise, function, case, budget)
                    tried += 1
                    if message is not None:
                        wrong.append((case, message))
                if wrong:
                    smallest, message = min(wrong, key=lambda pair: _magnitude(pair[0].arguments))
                    return Verdict("wrong", message, _mistake(exercise, function, budget) or smallest.note)
    except NotImplementedError:
        return Verdict("open", f"{exercise.function} is not written yet")
    except TimeExceeded:
        limit = f"the time limit: {budget.seconds:g} seconds for all cases"
        return Verdict("wrong", f"for {show_arguments(case.arguments)} your function exceeds {limit}", case.note)
    except ReaderError as error:
        return Verdict("wrong", str(error), case.note)
    return Verdict("right", f"{tried} cases agree with the reference")


def measure(exercise: MeasuredExercise, function: Callable[..., Any]) -> Verdict:
    """Measure a function; an error that it raises, or that its result raises, makes it wrong."""
    try:
        with _same_generators(), time_limit(exercise.seconds):
            return exercise.measure(function)
    except TimeExceeded:
        return Verdict("wrong", f"the measurement takes more than {exercise.seconds:g} seconds")
    except NotImplementedError as error:
        if not error.args:
            return Verdict("open", f"{exercise.function} is not written yet")
        return Verdict("wrong", describe(error, _file_of(function)))
    except (Exception, SystemExit) as error:
        return Verdict("wrong", f"the measurement raises {describe(error, _file_of(function))}")


def _groups(exercise: Exercise) -> Iterator[tuple[Case, ...]]:
    """Yield the listed cases one by one, then the random ones of each size together."""
    for case in exercise.cases:
        yield (case,)
    generator = Random(0)
    for size in SIZES if exercise.sample else ():
        assert exercise.sample is not None
        yield tuple(Case(exercise.sample(generator, size), exercise.sample_note) for _ in range(SAMPLES))


@contextlib.contextmanager
def _same_generators() -> Iterator[None]:
    """Seed torch's generator, so that a function with random numbers is repeatable, and restore it."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _try(exercise: Exercise, function: Callable[..., Any], case: Case, budget: TimeBudget) -> str | None:
    """Call the function with the arguments of a case; return a sentence if the result is wrong."""
    shown, given = show_arguments(case.arguments), copy.deepcopy(dict(case.arguments))
    with budget.spend():
        returned = call(exercise, function, given)
    for name, value in case.arguments.items():
        if not same(value, given[name]):
            raise ReaderError(f"for {shown} your function changes its argument {name} in place: return a new value")
    wrong = error_of(call(exercise, exercise.reference, case.arguments), returned, exercise.tolerance, exercise.results)
    return f"for {shown} {wrong.replace('you return', exercise.outcome, 1)}" if wrong else None


def call(exercise: Exercise, function: Callable[..., Any], arguments: Arguments) -> Any:
    """Call a function with the arguments of a case; raise ReaderError if it raises an error."""
    if exercise.call is None:
        with contextlib.suppress(ValueError):  # a callable without a signature
            try:
                inspect.signature(function).bind(**arguments)
            except TypeError:
                names = ", ".join(arguments)
                raise ReaderError(f"the parameters of {exercise.function} must be {names}") from None
    try:
        return exercise.call(function, arguments) if exercise.call else function(**arguments)
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:
        reason = describe(error, _file_of(function))
        raise ReaderError(f"for {show_arguments(arguments)} your function raises {reason}") from error


def _file_of(function: Callable[..., Any]) -> Path | None:
    """Return the file that defines a function."""
    return Path(inspect.getfile(function)) if inspect.isfunction(function) else None


def describe(error: BaseException, path: Path | None) -> str:
    """Describe an error with the line of the reader's file that raised it."""
    text = " ".join(str(error).split())
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if path and frame.filename == str(path)]
    where = f" (line {lines[-1].lineno}: {lines[-1].line})" if lines else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"


def show_arguments(arguments: Arguments) -> str:
    """Format arguments: `z = [1000.0, 0.0], y = 1.0`."""
    return ", ".join(f"{name} = {show(value)}" for name, value in arguments.items())


def _magnitude(arguments: Arguments) -> float:
    """Measure how simple arguments are: the sum of the magnitudes of their numbers."""

    def size(value: Any) -> float:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, tuple | list):
            return sum(map(size, value))
        if not isinstance(value, int | float) or not math.isfinite(value):
            return 1.0
        return abs(value) + (value != round(value))

    return size(plain(dict(arguments)))


def _mistake(exercise: Exercise, function: Callable[..., Any], budget: TimeBudget) -> str:
    """Return the explanation of a typical wrong function that returns the same for all cases."""
    returned = []
    try:
        for case in exercise.cases if exercise.mistakes else ():
            with budget.spend():
                returned.append(call(exercise, function, copy.deepcopy(dict(case.arguments))))
    except (ReaderError, TimeExceeded):
        return ""
    for explanation, wrong in (exercise.mistakes or {}).items():
        pairs = zip(exercise.cases, returned, strict=True)
        if all(
            error_of(call(exercise, wrong, case.arguments), result, exercise.tolerance) is None
            for case, result in pairs
        ):
            return explanation
    return ""


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Discard what the reader's functions print."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
