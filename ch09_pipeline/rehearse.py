"""Run the Pachyderm specifications without a cluster: each command on each datum, in a temporary /pfs.

    python -m ch09_pipeline.rehearse --out /tmp/rehearsal

The steps are those of Pachyderm: split each input repository into datums by its glob, combine them by cross or union,
create a folder /pfs/<name> with the files of each datum and an empty /pfs/out, run the command, and move the contents
of /pfs/out to the repository of the pipeline. Commits and containers are not reproduced.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ch09_pipeline import repository
from ch09_pipeline.contract import files_of
from ch09_pipeline.sources import ROOT
from common.cli import one_line_errors, parse
from common.config import require_positive
from common.files import read_json
from common.progress import say

SPECIFICATIONS = Path(__file__).with_name("pachyderm")

Datum = dict[str, list[Path]]
"""Files by the name of their folder in /pfs."""


@dataclass(frozen=True)
class Options:
    """Settings of the rehearsal."""

    data: Path | None = None
    """Folder of batches; by default the embedded shapes."""
    new: Path | None = None
    """Folder of new images; by default a few embedded ones."""
    epochs: int | None = None
    """Number of passes over the training images; by default as in the specifications."""
    threshold: float | None = None
    """Minimum validation accuracy of the published model; by default as in the specifications."""
    out: Path = Path("runs/ch09_pipeline/rehearsal")
    """Folder for the repositories; it must not exist yet."""

    def __post_init__(self) -> None:
        require_positive(self, "epochs")


def datums_of(source: Mapping[str, Any], repositories: Mapping[str, Path]) -> list[Datum]:
    """List the datums of an input: each match of a glob is one; a cross combines datums, a union concatenates them."""
    if "cross" in source:
        parts = [datums_of(part, repositories) for part in source["cross"]]
        return [{name: files for datum in chosen for name, files in datum.items()} for chosen in product(*parts)]
    if "union" in source:
        return [datum for part in source["union"] for datum in datums_of(part, repositories)]
    pfs = source["pfs"]
    home = repositories[pfs["repo"]]
    matches = [home] if pfs["glob"] == "/" else sorted(home.glob(pfs["glob"].removeprefix("/")))
    return [{pfs.get("name", pfs["repo"]): files_of([match])} for match in matches]


def repositories_of(source: Mapping[str, Any]) -> set[str]:
    """Return the names of the repositories that an input reads."""
    if "pfs" in source:
        return {source["pfs"]["repo"]}
    return {name for part in source.get("cross", source.get("union", ())) for name in repositories_of(part)}


def topological_order(specifications: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort pipelines topologically, each after those whose repositories it reads; raises ValueError for a cycle."""
    waiting = {specification["pipeline"]["name"]: specification for specification in specifications}
    ordered = []
    while waiting:
        ready = [name for name, entry in waiting.items() if not repositories_of(entry["input"]) & waiting.keys()]
        if not ready:
            raise ValueError(f"the pipelines {', '.join(waiting)} depend on each other")
        ordered += [waiting.pop(name) for name in ready]
    return ordered


def run_datum(command: Sequence[str], datum: Datum, repositories: Mapping[str, Path], home: Path) -> None:
    """Run a command on a datum, in a temporary folder that replaces the root of its container.

    Raises ValueError if the command fails, with the last line of its stderr, or if two datums write the same file.
    """
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".pfs-") as scratch:
        pfs = Path(scratch) / "pfs"
        for name, files in datum.items():
            for file in files:
                place = pfs / name / _relative_path(file, repositories)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(file.resolve())
        (pfs / "out").mkdir()
        words = [f"{scratch}{word}" if word.startswith("/pfs/") else word for word in command]
        words = [sys.executable if word == "python" else word for word in words]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(words, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"{' '.join(command)} failed: {(done.stderr.strip() or 'no output').splitlines()[-1]}")
        for file in files_of([pfs / "out"]):
            place = home / file.relative_to(pfs / "out")
            if place.exists():
                raise ValueError(f"two datums of {home.name} write {place.name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)


def _relative_path(file: Path, repositories: Mapping[str, Path]) -> Path:
    """Return the path of a file relative to its repository."""
    home = next(home for home in repositories.values() if file.is_relative_to(home))
    return file.relative_to(home)


def rehearse(
    specifications: Sequence[Mapping[str, Any]],
    repositories: Mapping[str, Path],
    out: Path,
    flags: Mapping[str, object],
) -> dict[str, Path]:
    """Run all pipelines, each into a repository in `out`; `flags` replace values in the commands.

    Raises ValueError if a pipeline has no datum, or as `run_datum`.
    """
    known = {name: path.resolve() for name, path in repositories.items()}
    for specification in topological_order(specifications):
        name = specification["pipeline"]["name"]
        home = (out / name).resolve()
        home.mkdir(parents=True)
        command = list(specification["transform"]["cmd"])
        for flag, value in flags.items():
            if flag in command:
                command[command.index(flag) + 1] = str(value)
        datums = datums_of(specification["input"], known)
        if not datums:
            repositories_read = ", ".join(sorted(repositories_of(specification["input"])))
            raise ValueError(f"{name} has no datum: a glob matches no file in {repositories_read}")
        workers = specification.get("parallelismSpec", {}).get("constant", 1)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda datum: run_datum(command, datum, known, home), datums))  # noqa: B023  # runs in this iteration
        known[name] = home
        say(name, f"{len(datums)} datum{'s' * (len(datums) != 1)}, {workers} at a time, {len(files_of([home]))} files")
    return known


def main() -> None:
    """Read the command line and run the rehearsal."""
    with one_line_errors():
        options = parse(Options, sys.argv[1:], prog="python -m ch09_pipeline.rehearse", description=__doc__ or "")
        if options.out.exists():
            raise ValueError(f"--out {options.out} exists already: remove it, or choose another folder")
        data, new = options.data or options.out / "data", options.new or options.out / "new"
        if options.data is None:
            repository.embed_batches(data)
        if options.new is None:
            repository.embed_pictures(new)
        specifications = [read_json(path) for path in sorted(SPECIFICATIONS.glob("*.json"))]
        given = {"--epochs": options.epochs, "--threshold": options.threshold}
        flags = {flag: value for flag, value in given.items() if value is not None}
        rehearse(specifications, {"data": data, "new": new}, options.out, flags)


if __name__ == "__main__":
    main()
