"""List, compare and remove runs.

python -m common.runs                                                   # all runs below runs/, the newest first
python -m common.runs --chapter ch06 --data cifar --sort metric         # some of them, the highest metric first
python -m common.runs --text "learning-rate 0.01" --json                # one JSON object per line, for jq
python -m common.runs compare 20261120-210300 20261120-213000           # folders, or parts of their names
python -m common.runs remove --older-than 30d --state interrupted       # asks before it removes

In Python, `common.runs.load(folder)` returns the model of a run, as in `model, config = load("runs/ch06_cnn/cnn/...")`.
"""

import sys
from collections.abc import Sequence

from common.cli import one_line_errors, parse
from common.run_folders.comparison import Compare, compare
from common.run_folders.listing import List, list_runs
from common.run_folders.loading import load
from common.run_folders.removal import Remove, remove_runs

__all__ = ["load", "main"]

COMMANDS = {"list": List, "compare": Compare, "remove": Remove}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line: list, compare or remove; `list` may be omitted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with one_line_errors():
        named = bool(words) and not words[0].startswith("-")
        name = words.pop(0) if named else "list"
        if name not in COMMANDS:
            raise ValueError(f"unknown command {name!r}; choose from {', '.join(COMMANDS)}")
        prog = f"python -m common.runs{f' {name}' if named else ''}"
        options = parse(COMMANDS[name], words, prog=prog, description=__doc__ or "")
        if isinstance(options, Compare):
            compare(options)
        elif isinstance(options, Remove):
            remove_runs(options)
        else:
            list_runs(options)


if __name__ == "__main__":
    main()
