"""Load the model of a run: find the program by the names in its config.json and call its `restore`."""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from common.files import read_json


def load(folder: Path | str) -> tuple[Any, ...]:
    """Load the model of a run folder, ready for evaluation on the CPU.

    Returns what the program's `restore` returns: the model, then what it needs (a vocabulary, for example), and the
    Config. Weights are read from model.safetensors, which cannot contain code. Raises FileNotFoundError if the folder
    is not a run folder or has no weights, ValueError if its program is unknown or does not save a model.
    """
    folder = Path(folder)
    program = program_of(folder)
    restore = getattr(program, "restore", None)
    if restore is None or restore.__module__ != program.__name__:  # it may be imported from another program
        raise ValueError(f"{folder} is a run of {program.__name__}, which does not save a model")
    return restore(folder)


def program_of(folder: Path) -> ModuleType:
    """Import the program that made a run: the one with that name on the command line of its chapter.

    Raises FileNotFoundError if the folder is not a run folder, ValueError if the program does not exist.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
    record = read_json(path)
    chapter, name = (record.get("chapter"), record.get("program")) if isinstance(record, dict) else (None, None)
    if not isinstance(chapter, str) or not re.fullmatch(r"ch\d\d_\w+", chapter):
        raise ValueError(f"{path} is not the config.json of a run: its chapter is {chapter!r}")
    try:
        commands = vars(importlib.import_module(f"{chapter}.train"))
    except ModuleNotFoundError as error:
        raise ValueError(f"{path} names the chapter {chapter}, which cannot be imported: {error}") from error
    for module in commands.values():
        if isinstance(module, ModuleType) and hasattr(module, "Config") and module.__name__.endswith(f".{name}"):
            return module
    raise ValueError(f"{path} names the program {name!r}, which {chapter} does not have")
