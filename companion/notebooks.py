"""Write the notebooks: run every cell of the sources in docs/notebooks and save them with their outputs.

    python -m companion.notebooks                              # all notebooks, to build/notebooks
    python -m companion.notebooks ch05_attention --out notes

A source is a Python file in the percent format of jupytext: a cell starts with `# %%`, or `# %% [markdown]` for text.
Every notebook is run in a fresh Jupyter kernel. The table shows the seconds of each notebook and of its slowest cell.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from common.cli import one_line_errors, suggest
from common.progress import print_table, say

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "docs" / "notebooks"
REPOSITORY = ""
"""Address of the public Git repository, from which notebooks install the package on Colab and Kaggle."""
CELL_SECONDS = 120
"""A cell that takes longer is interrupted; the cells are written to take less than ten seconds."""
FORMAT = "py:percent"

SETUP = """\
# Install the package on Colab or Kaggle; elsewhere this cell does nothing.
import importlib.util
import os

REPOSITORY = {repository!r}  # address of the Git repository
hosted = "COLAB_RELEASE_TAG" in os.environ or "KAGGLE_KERNEL_RUN_TYPE" in os.environ
if hosted and not importlib.util.find_spec("ch01_graphs"):
    if not REPOSITORY:
        raise RuntimeError("set REPOSITORY to the address of the Git repository of this package")
    %pip install --quiet "deep-learning-companion[export] @ git+{{REPOSITORY}}\""""
"""First cell of every notebook; `%pip` installs into the environment of the kernel."""


@dataclass(frozen=True)
class Config:
    """Notebooks to write."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of the notebooks, as in ch05_attention; all by default."""
    out: Path = Path("build/notebooks")
    """Folder of the notebooks."""


@dataclass(frozen=True)
class Executed:
    """A notebook with its outputs."""

    notebook: "NotebookNode"
    seconds: list[float]
    """Seconds of each code cell, without the start of the kernel."""


def sources() -> dict[str, Path]:
    """Return the source of each notebook by its name, in the order of the chapters."""
    return {path.stem: path for path in sorted(SOURCES.glob("ch*.py"))}


def read(path: Path) -> "NotebookNode":
    """Read a source as a notebook without outputs."""
    import jupytext

    return jupytext.read(path, fmt=FORMAT)


def with_setup(notebook: "NotebookNode", repository: str = REPOSITORY) -> "NotebookNode":
    """Insert the cell that installs the package on Colab and Kaggle as the first cell."""
    from nbformat.v4 import new_code_cell

    notebook.cells.insert(0, new_code_cell(SETUP.format(repository=repository), id="setup"))
    return notebook


def execute(notebook: "NotebookNode") -> Executed:
    """Run all cells in a fresh kernel, offline and with embedded data; raise CellExecutionError if one fails."""
    from nbclient import NotebookClient
    from traitlets.config import Config as Settings

    started: dict[int, float] = {}
    seconds: dict[int, float] = {}

    def start(cell_index: int, **_: Any) -> None:
        started[cell_index] = time.perf_counter()

    def finish(cell_index: int, **_: Any) -> None:
        seconds[cell_index] = time.perf_counter() - started[cell_index]

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT)}},  # the folder from which the cells import
        config=Settings({} if sys.platform == "win32" else {"KernelManager": {"transport": "ipc"}}),  # no open ports
        on_cell_execute=start,
        on_cell_executed=finish,
    )
    client.execute(env={**os.environ, "DATA_OFFLINE": "1", "PYTHONPATH": str(ROOT)})
    return Executed(notebook, list(seconds.values()))


def write(config: Config) -> dict[str, Executed]:
    """Run the notebooks of a Config and save them; print the seconds of each."""
    import nbformat

    known = sources()
    if not known:
        raise FileNotFoundError(f"{SOURCES} has no notebooks: run this command in a checkout of the repository")
    for name in config.names:
        if name not in known:
            raise ValueError(f"there is no notebook {name}{suggest(name, known)}")
    waiting = {name: with_setup(read(known[name])) for name in config.names or known}
    config.out.mkdir(parents=True, exist_ok=True)
    written, rows = {}, []
    for name, notebook in waiting.items():
        say("run", name)
        done = written[name] = execute(notebook)
        nbformat.write(done.notebook, config.out / f"{name}.ipynb")
        rows.append([name, len(done.seconds), sum(done.seconds), max(done.seconds)])
    print_table(["notebook", "code cells", "seconds", "slowest cell"], rows)
    say("saved", str(config.out))
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        try:
            write(tyro.cli(Config, args=arguments, description=__doc__, prog="python -m companion.notebooks"))
        except ModuleNotFoundError as error:
            raise ValueError(f"{error.name} is not installed: pip install '.[notebooks]'") from None


if __name__ == "__main__":
    main(sys.argv[1:])
