"""The console command `companion`: list the chapters and their programs, run one, or take the tour.

companion                                     # chapters and programs
companion run ch06 cnn --augment              # as python -m ch06_cnn.train cnn --augment
companion run ch06 detect photograph.jpg      # as python -m ch06_cnn.detect photograph.jpg
companion run ch06 exercises                  # as python -m ch06_cnn.exercises
companion tour --chapters 3,5                 # as python tour.py --chapters 3,5
companion runs --sort metric                  # as python -m common.runs --sort metric
source <(companion completion bash)           # completion of names with the tab key; also for zsh
"""

import ast
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.cli import one_line_errors, suggest
from companion.tour_visit import first_line

ROOT = Path(__file__).parents[1]
COMMANDS = ("run", "tour", "runs", "completion")
SHELLS = {
    "bash": """\
_companion() {
  local words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
  COMPREPLY=($(compgen -W "$(companion complete "${words[@]}")" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _companion companion""",
    "zsh": """\
autoload -Uz compinit && compinit
_companion() { compadd -- $(companion complete "${(@)words[2,CURRENT-1]}") }
compdef _companion companion""",
}


@dataclass(frozen=True)
class Entry:
    """Something that can be run in a chapter."""

    name: str
    words: tuple[str, ...]
    """Module to run, and the arguments in front of the user's."""
    description: str


def chapters() -> dict[str, str]:
    """Return the description of each chapter's package by its name."""
    found = sorted(path.parent for path in ROOT.glob("ch[0-9][0-9]_*/train.py"))
    return {path.name: description(path / "__init__.py") for path in found}


def description(path: Path) -> str:
    """Return the first line of a file's docstring without its full stop."""
    return first_line(ast.get_docstring(parsed(path))).rstrip(".")


def parsed(path: Path) -> ast.Module:
    """Parse a file; nothing is imported, since the chapters load torch."""
    return ast.parse(path.read_text(encoding="utf-8"))


def entries(chapter: str) -> dict[str, Entry]:
    """Return the programs of a chapter's command line, in the order of its train.py, and its other commands."""
    train = parsed(ROOT / chapter / "train.py")
    places = {  # names of imported modules
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in train.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    used = [node for node in ast.walk(train) if isinstance(node, ast.Name) and places.get(node.id, "").startswith("ch")]
    names = dict.fromkeys(node.id for node in sorted(used, key=lambda node: (node.lineno, node.col_offset)))
    found = {}
    for name in names:
        path = ROOT.joinpath(*places[name].split(".")).with_suffix(".py")
        title = places[name].rpartition(".")[2]
        found[title] = Entry(title, (f"{chapter}.train", title), description(path))
    for path in sorted((ROOT / chapter).glob("*.py")):
        module = parsed(path)
        if path.stem != "train" and any(is_main(node) for node in module.body):
            found[path.stem] = Entry(path.stem, (f"{chapter}.{path.stem}",), description(path))
    if (ROOT / chapter / "exercises" / "__main__.py").exists():
        found["exercises"] = Entry("exercises", (f"{chapter}.exercises",), "Exercises that check themselves")
    return found


def is_main(node: ast.stmt) -> bool:
    """Return whether a statement is `if __name__ == "__main__":`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def find_chapter(word: str) -> str:
    """Return the package of a chapter: `6`, `ch06` or `ch06_cnn`. Raises ValueError for anything else."""
    numbers = {f"ch{int(word):02d}"} if word.isdecimal() and word.isascii() else {word}
    for name in chapters():
        if numbers & {name, name.partition("_")[0]}:
            return name
    raise ValueError(f"unknown chapter {word!r}; choose from {', '.join(name[:4] for name in chapters())}")


def show() -> None:
    """Print all chapters with their programs and other commands."""
    output = Console(highlight=False, markup=False)
    for chapter, title in chapters().items():
        heading = f"{chapter[:4]}  {title.partition(': ')[2]}"
        table = Table(box=None, show_header=False, padding=(0, 1), title=heading, title_justify="left")
        table.add_column(width=22, no_wrap=True)
        table.add_column()
        for entry in entries(chapter).values():
            table.add_row(f"  {entry.name}", entry.description)
        output.print(table)
        output.print()
    output.print("companion run CHAPTER NAME --help shows the flags; companion tour runs all chapters in short")


def run(words: Sequence[str]) -> None:
    """Run a program or a command of a chapter; without a name, all core programs."""
    if not words or words[0] in ("-h", "--help"):
        raise ValueError("companion run needs a chapter, as in: companion run ch06 cnn --epochs 1")
    chapter = find_chapter(words[0])
    found, rest = entries(chapter), list(words[1:])
    name = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if name is None:
        start(f"{chapter}.train", rest)
        return
    if name not in found:
        raise ValueError(f"unknown program {name!r} in {chapter}{suggest(name, found)}")
    module, *first = found[name].words
    start(module, [*first, *rest])


def start(module: str, arguments: Sequence[str]) -> None:
    """Run a module in this process, as `python -m` does."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  # as `python -m` does; a program may start others
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def complete(words: Sequence[str]) -> list[str]:
    """Return the words that can follow."""
    if not words:
        return list(COMMANDS)
    if words[0] == "completion" and len(words) == 1:
        return list(SHELLS)
    if words[0] == "run":
        if len(words) == 1:
            return [name[:4] for name in chapters()]
        if len(words) == 2:
            return list(entries(find_chapter(words[1])))
    return []


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    with one_line_errors():
        match command:
            case "":
                show()
            case "-h" | "--help":
                print((__doc__ or "").strip())
            case "run":
                run(rest)
            case "tour":
                from companion.tour import main as tour

                tour(rest, prog="companion tour")
            case "runs":
                start("common.runs", rest)
            case "completion" if len(rest) == 1 and rest[0] in SHELLS:
                print(SHELLS[rest[0]])
            case "completion":
                raise ValueError(f"companion completion needs a shell: {' or '.join(SHELLS)}")
            case "complete":
                print("\n".join(complete(rest)))
            case _:
                raise ValueError(f"unknown command {command!r}{suggest(command, COMMANDS)}")
