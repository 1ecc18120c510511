"""Options that all programs share, and conversions of a Config to flags and JSON."""

import dataclasses
import difflib
import os
import shlex
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from tyro.constructors import PrimitiveConstructorSpec

from common.files import read_json

C = TypeVar("C")

MOST_THREADS = 4 * (os.cpu_count() or 1)
"""Largest accepted number of threads."""


def _read_resume(words: list[str]) -> bool | str:
    if len(words) > 1:
        raise ValueError(f"--resume takes one folder, got {' '.join(words)}")
    return words[0] if words else True


RESUME = PrimitiveConstructorSpec[bool | str](
    nargs=(0, 1),
    metavar="[auto|FOLDER]",
    instance_from_str=_read_resume,
    is_instance=lambda value: isinstance(value, bool | str),
    str_from_instance=lambda value: [str(value)],
)
"""Command-line syntax of `resume`: --resume, --resume auto or --resume FOLDER."""


@dataclass(frozen=True)
class RunOptions:
    """Options that every program has."""

    seed: int = 0
    """Seed of the random number generators; the same seed gives the same weights."""
    device: str = "auto"
    """Device: auto (the GPU, if there is one), cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the training step; auto uses bf16 autocast if it is expected to be faster, else fp32."""
    threads: int | None = None
    """Number of CPU threads; 0 uses all. Default: chosen by the program."""
    limit: int | None = None
    """Maximum number of samples in each of the training, validation and test sets. Default: all."""
    out: Path = Path("runs")
    """Folder in which the run folder is created."""
    resume: Annotated[bool | str, RESUME] = False
    """Resume the newest unfinished run of this program with the same settings; with a run folder, resume that run;
    with auto, resume if there is such a run, else start a new one."""
    tensorboard: bool = False
    """Also write the metrics of every epoch to event files for TensorBoard (pip install '.[tensorboard]')."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "--seed must be between 0 and 2^63 - 1", self.seed)
        fits = 0 <= (self.threads or 0) <= MOST_THREADS
        require(fits, f"--threads must be between 0 and {MOST_THREADS}", self.threads)
        require(self.limit is None or self.limit > 0, "--limit must be at least 1", self.limit)
        require(self.resume != "", "--resume takes auto or a run folder", "an empty name")


def require(condition: bool, rule: str, value: object) -> None:
    """Raise ValueError with the rule and the offending value if the condition is false."""
    if not condition:
        raise ValueError(f"{rule}, got {value}")


def flag(name: str) -> str:
    """Convert a field name to its flag: `batch_size` to `--batch-size`."""
    return "--" + name.replace("_", "-")


def require_positive(config: Any, *names: str) -> None:
    """Raise ValueError, naming the flag, if a field is given and is not a number above zero."""
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            require(number is None or 0 < number < float("inf"), f"{flag(name)} must be a number above 0", number)


def default_by(other: str, **values: Any) -> Any:
    """Declare a field whose default depends on another field's value: `default_by("level", char=512, word=256)`.

    A value may itself be a `default_by` of a third field. The Config's `__post_init__` calls `fill_defaults`, so no
    field is None once the Config exists.
    """
    return dataclasses.field(default=None, metadata={DEFAULT_BY: (other, values)})


DEFAULT_BY = "default_by"


def fill_defaults(config: Any) -> None:
    """Set every field that was not given to its default (see `default_by`)."""
    for field in dataclasses.fields(config):
        if DEFAULT_BY in field.metadata and getattr(config, field.name) is None:
            object.__setattr__(config, field.name, default_of(field, config))


def default_of(field: Any, config: Any) -> Any:
    """Return the default of a field declared with `default_by`, for the values of the other fields of a Config."""
    other, values = field.metadata[DEFAULT_BY]
    value = values[getattr(config, other)]
    return default_of(value, config) if isinstance(value, dataclasses.Field) else value


def deciding_fields(field: Any) -> set[str]:
    """Name the fields that decide the default of a field; none for a field not declared with `default_by`."""
    if DEFAULT_BY not in field.metadata:
        return set()
    other, values = field.metadata[DEFAULT_BY]
    return {other}.union(*(deciding_fields(value) for value in values.values() if isinstance(value, dataclasses.Field)))


def to_json(config: Any) -> dict[str, Any]:
    """Convert a Config to JSON types: paths to strings, tuples to lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))


def read_config(folder: Path, config_class: type[C]) -> C:
    """Read the Config of a run folder, with the number of threads limited to what this machine accepts.

    Raises FileNotFoundError if the folder is not a run folder, ValueError if it belongs to another program.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
    record = read_json(path)
    try:
        values = record["config"]
        threads = values["run"]["threads"]
        here = {"out": Path(values["run"]["out"]), "threads": threads and min(threads, MOST_THREADS)}
        run = RunOptions(**values["run"] | here)
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return config_class(**fields | {"run": run})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not fit {config_class.__module__}.Config: {error}") from error


def saved_settings(path: Path, module: str) -> tuple[Path, dict[str, Any]]:
    """Read the settings of a program (its `__name__`) from a config.json or a run folder, as on the command line.

    Returns the file and the settings, without --out and --resume, which belong to one run only, and with the number of
    threads limited to what this machine accepts. Raises FileNotFoundError if there is no such file, ValueError if it
    is not a config.json or belongs to another program.
    """
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"--config {path} does not exist: name the config.json of a run, or its folder")
    record = read_json(path)
    try:
        chapter, program, settings = record["chapter"], record["program"], dict(record["config"])
        settings |= settings.pop("run")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the config.json of a run ({type(error).__name__}: {error})") from error
    if (chapter, program) != chapter_and_name(module):
        raise ValueError(f"{path} is of another program: start it with python -m {chapter}.train {program}")
    settings = {name: value for name, value in settings.items() if name not in ("out", "resume")}
    if isinstance(settings.get("threads"), int):
        settings["threads"] = min(settings["threads"], MOST_THREADS)
    return path, settings


def explicit_flags(settings: dict[str, Any], config_class: type) -> list[str]:
    """Convert the settings of a config.json to command-line words.

    Raises ValueError if the Config does not have a setting; one that the file does not have keeps its default.
    """
    words: list[str] = []
    usual = _flat_fields(config_class())
    hints = {**typing.get_type_hints(RunOptions), **typing.get_type_hints(config_class)}
    for name, value in settings.items():
        if name not in usual:
            near = difflib.get_close_matches(name, usual, n=1)
            advice = f"did you mean {near[0]}?" if near else "remove it from the file, if it is outdated"
            raise ValueError(f"unknown setting {name}; {advice}")
        one = value is None or isinstance(value, str | int | float)
        if not one and not (isinstance(value, list) and "tuple" in str(hints[name])):
            raise ValueError(f"{flag(name)} takes one value, got {value}")
        if isinstance(usual[name], bool) and isinstance(value, bool):
            words += [flag(name if value else f"no_{name}")] if value != usual[name] else []
        else:
            words += [flag(name), *(str(item) for item in (value if isinstance(value, list) else (value,)))]
    return words


def changed_flags(config: Any) -> list[str]:
    """List the fields that differ from their defaults as command-line words."""
    words: list[str] = []
    fields = [field for field in dataclasses.fields(config) if DEFAULT_BY in field.metadata]
    defaults = _flat_fields(type(config)()) | {field.name: default_of(field, config) for field in fields}
    for name, value in _flat_fields(config).items():
        if value == defaults[name]:
            continue
        if isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        else:
            words += [flag(name), *(str(item) for item in (value if isinstance(value, tuple) else (value,)))]
    return words


def _flat_fields(config: Any) -> dict[str, Any]:
    """Return the fields of a Config and of its RunOptions in one dictionary, as on the command line."""
    return {name: value for name, value in vars(config).items() if name != "run"} | vars(config.run)


def chapter_and_name(module: str) -> tuple[str, str]:
    """Split a module name: `ch05_rnn.language.language_model` is program `language_model` of chapter `ch05_rnn`."""
    return module.partition(".")[0], module.rpartition(".")[2]


def command_line(module: str, config: Any) -> str:
    """Return the command that runs a program (`ch03_autoencoder_rbm.digits.feedforward`) with this Config."""
    chapter, program = chapter_and_name(module)
    return shlex.join(["python", "-m", f"{chapter}.train", program, *changed_flags(config)])
