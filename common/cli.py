"""Command line of every chapter: choose a program, read its Config from the flags, run it.

A program is a module with `Config` (a frozen dataclass whose field `run` holds the RunOptions), `train(config)` and, if
it has a training step to time, `workload(config, device)`. tyro reads the flags from the Config's fields and their
docstrings.
"""

import contextlib
import dataclasses
import difflib
import inspect
import io
import os
import re
import signal
import sys
import threading
import types
import typing
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Any, Generic, TypeVar

import tyro

from common.config import RunOptions, changed_flags, explicit_flags, saved_settings

C = TypeVar("C")
T = TypeVar("T")

USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143


ConfigFile = Annotated[Path | None, tyro.conf.arg(name="config", metavar="FILE", help_behavior_hint="")]


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; it is handled like Ctrl-C."""


@dataclass(frozen=True)
class Program(Generic[C]):
    """Flags of one program."""

    config: C
    config_file: ConfigFile = None
    """Saved config.json, or its run folder, with the settings to start from; other flags override them. --out and
    --resume are not taken from it."""
    benchmark: bool = False
    """Time the training step on every device of this machine, instead of training."""


@dataclass(frozen=True)
class Measurement(Generic[C]):
    """Flags of a program without a training step to time."""

    config: C
    config_file: ConfigFile = None
    """Saved config.json, or its run folder, with the settings to start from; other flags override them. --out and
    --resume are not taken from it."""


@dataclass(frozen=True)
class Chapter:
    """Flags without a program name, which apply to all core programs."""

    run: RunOptions = field(default_factory=RunOptions)
    benchmark: bool = False
    """Time the training steps on every device of this machine, instead of training."""


@dataclass(frozen=True)
class UntimedChapter:
    """Flags without a program name, for a chapter whose core programs have no training step to time."""

    run: RunOptions = field(default_factory=RunOptions)


def main(*core: ModuleType, extra: Sequence[ModuleType] = (), arguments: Sequence[str] | None = None) -> None:
    """Run the program named on the command line, or all core programs in order if no program is named."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    programs = {_name(module): module for module in (*core, *extra)}
    package = core[0].__name__.partition(".")[0]
    command = f"python -m {package}.train"
    with one_line_errors(), sigterm_like_ctrl_c():
        if words and not words[0].startswith("-"):
            name = words.pop(0)
            if name not in programs:
                raise ValueError(f"unknown program {name!r}{suggest(name, programs)}; try {command} --help")
            module = programs[name]
            kind = Program[module.Config] if hasattr(module, "workload") else Measurement[module.Config]
            prog = f"{command} {name}"
            words = [*_saved_flags(module, kind, words, prog), *words]  # of a flag given twice, the last one counts
            chosen = parse(kind, words, prog=prog, description=_description(module))
            jobs, benchmark = [(module, chosen.config)], isinstance(chosen, Program) and chosen.benchmark
        else:
            listing = "\n".join(f"  {name:<14} {_first_line(module)}" for name, module in programs.items())
            names = ", ".join(_name(module) for module in core)
            about = f"{_first_line(sys.modules[package])}\n\nPrograms (with no name: {names}):\n{listing}"
            late = [word for word in words if word in programs]
            if late:
                raise ValueError(f"put the program first: {command} {late[0]} ...")
            if any(word.partition("=")[0] == "--config" for word in words):
                raise ValueError(f"--config needs a program name: {command} {_name(core[0])} {' '.join(words)}")
            timed = any(hasattr(module, "workload") for module in core)
            chosen = parse(Chapter if timed else UntimedChapter, words, prog=command, description=about)
            if chosen.run.resume:
                raise ValueError(f"--resume needs a program name: {command} {_name(core[0])} --resume")
            jobs = [(module, _with_options(module, chosen.run)) for module in core]
            benchmark = isinstance(chosen, Chapter) and chosen.benchmark
        if benchmark:
            from common.benchmark import run_benchmark

            run_benchmark(package, [job for job in jobs if hasattr(job[0], "workload")])
        else:
            for module, config in jobs:
                module.train(config)


def parse(kind: type[T], words: Sequence[str], *, prog: str, description: str) -> T:
    """Parse command-line words into a dataclass; --help prints and exits, a mistake raises a one-line ValueError."""
    complaint = io.StringIO()
    _hide_none(kind)
    style = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    try:
        with contextlib.redirect_stderr(complaint), warnings.catch_warnings():
            # None marks a default that depends on another field, although the type excludes None (config.default_by)
            warnings.filterwarnings("ignore", r"(?s)The field .* the default value `None` has type", UserWarning)
            return tyro.cli(kind, args=words, prog=prog, description=description, config=style)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(f"{_one_line(complaint.getvalue())}; try {prog} --help") from None


def _saved_flags(module: ModuleType, kind: Any, words: Sequence[str], prog: str) -> list[str]:
    """Return the settings in the file that --config names as flags, without those that have their default value.

    Defaults that depend on another setting therefore follow that setting if a flag overrides it. Raises ValueError,
    naming the file and the field, if a field is unknown or its value is not valid.
    """
    files = [
        word.partition("=")[2] or next(iter(words[number + 1 :]), "")
        for number, word in enumerate(words)
        if word.partition("=")[0] == "--config"
    ]
    if not files or not files[-1] or "--help" in words or "-h" in words:
        return []  # a missing name is reported by the parser
    path, settings = saved_settings(Path(files[-1]), module.__name__)
    try:
        flags = explicit_flags(settings, module.Config)
        saved = changed_flags(parse(kind, flags, prog=prog, description="").config)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removesuffix(f'; try {prog} --help')}") from error
    absent = [each.name for each in dataclasses.fields(module.Config) if each.name not in (*settings, "run")]
    if absent:
        from common.progress import say

        say("config", f"{path} does not have {', '.join(absent)}: default used")
    return saved


def _hide_none(kind: Any) -> None:
    """Make --help show `--limit INT` instead of tyro's `--limit {None}|INT ... (default: None)`.

    The docstring of a field whose default is None describes the default.
    """
    for part in (kind, *typing.get_args(kind)):
        if not dataclasses.is_dataclass(part) or not isinstance(part, type):
            continue
        hints = typing.get_type_hints(part, include_extras=True)
        for each in dataclasses.fields(part):
            hint = hints[each.name]
            if dataclasses.is_dataclass(hint):
                _hide_none(hint)
            elif each.default is None and typing.get_origin(hint) is not Annotated:
                shown = tyro.conf.arg(metavar=_metavar(hint), help_behavior_hint="")
                part.__annotations__[each.name] = Annotated[hint, shown]


def _metavar(hint: Any) -> str:
    """Return the placeholder for a flag's values in --help: INT, {a,b} or INT [INT ...]."""
    arguments = [argument for argument in typing.get_args(hint) if argument is not type(None)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return "|".join(_metavar(argument) for argument in arguments)
    if typing.get_origin(hint) is typing.Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if typing.get_origin(hint) is tuple:
        first = _metavar(arguments[0])
        return f"{first} [{first} ...]" if Ellipsis in arguments else " ".join(map(_metavar, arguments))
    return hint.__name__.upper()


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors that a user can cause as one line and exit with code 2; `python -X dev` shows the traceback."""
    try:
        yield
    except Terminated:
        sys.exit(TERMINATED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError, FloatingPointError, MemoryError, RuntimeError) as error:
        message = " ".join(str(error).split()) or "out of memory"  # a MemoryError has no message
        if isinstance(error, RuntimeError):
            if type(error).__name__ != "OutOfMemoryError" and "DefaultCPUAllocator" not in message:
                raise
            message = f"out of memory: lower --batch-size or another size ({message.partition('. ')[0]})"
        if sys.flags.dev_mode:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(USER_ERROR)
    finally:
        if "common.distributed" in sys.modules:  # a server, for example, does not load torch
            sys.modules["common.distributed"].stop()


@contextlib.contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Make SIGTERM, with which clusters stop a program, raise Terminated in the block instead of ending the process."""
    arrived = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal arrived
        arrived = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun may send it again during the shutdown
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except RuntimeError as error:  # under torchrun, another process has already closed the connection
        if arrived:
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _one_line(complaint: str) -> str:
    """Extract the message and the suggested flag, if any, from the box that tyro draws around an error.

    Horizontal rules divide the box into a title, the message, optional suggestions, and where to find help.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", complaint)
    parts: list[list[str]] = [[]]
    for row in (line.strip("│╭╰╮╯ ") for line in plain.splitlines()):
        if row.startswith(("──", "--" * 5, "─ ")):
            parts.append([])
        elif row:
            parts[-1].append(row)
    message = " ".join(parts[1]) if len(parts) > 1 else " ".join(plain.split())
    message = re.sub(r"^Error parsing (?:[A-Za-z][\w.]*: )?", "", message).partition(" Got errors:")[0].rstrip(".")
    message = re.sub(
        r"no type matching \{None\}\|\{?(.+?)\}? could be instantiated from \['(.*)'\]",
        lambda found: "expected {}, got {}".format(found[1], found[2].replace("', '", " ")),
        message,
    )
    for part in parts:
        if part[:1] == ["Perhaps you meant:"]:
            message += f"; did you mean {part[1].split()[0]}?"
    return message


def suggest(word: str, known: Collection[str]) -> str:
    """Return the end of an error message for an unknown word: the most similar known word, or all of them."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; choose from {', '.join(known)}"


def _with_options(module: ModuleType, options: RunOptions) -> Any:
    """Return the program's default Config, with the shared options that were given replacing its own."""
    config, usual = module.Config(), RunOptions()
    given = {name: value for name, value in vars(options).items() if value != getattr(usual, name)}
    return replace(config, run=replace(config.run, **given))


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _description(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").strip()


def _first_line(module: ModuleType) -> str:
    return _description(module).partition("\n")[0]
