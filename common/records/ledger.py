"""The results ledger: run a command with several seeds, save the results, and render the tables of the READMEs.

python -m common.records.ledger record ch03/feedforward --seeds 3 -- ch03_autoencoder_rbm.train feedforward
python -m common.records.ledger picture ch03/rbm filters    # copy a figure of a recorded run into docs/: pictures.py
python -m common.records.ledger aims              # list the recorded figures that miss results/targets.toml
python -m common.records.ledger devices           # time every chapter's steps on every device: device_table.py
python -m common.records.ledger render            # rewrite the tables from results/: tables.py
python -m common.records.ledger render --check    # list the pages whose tables differ from the records; exit with 1
"""

import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import tyro

from common.benchmark import matrix_product_rate
from common.cli import one_line_errors, parse
from common.config import require
from common.data.source import data_dir
from common.device import describe_machine
from common.files import read_json, write_json, write_text
from common.records import pictures, tables
from common.records.device_table import time_chapters


@dataclass(frozen=True)
class Record:
    """Run a command with several seeds and save the results in results/<name>.json."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of the record."""
    title: str = "defaults"
    """Title of the row in the tables."""
    seeds: int = 3
    """Number of runs, with seeds 0, 1, 2 ..."""
    rates: bool = True
    """Record throughput and durations; on a busy machine, omit them with --no-rates."""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "--seeds must be at least 1", self.seeds)
        require_name(self.name)


def require_name(name: str) -> None:
    """Raise ValueError if a name is not valid for a record."""
    require(
        re.fullmatch(r"(\w+/)?[\w-]+", name) is not None,
        "a record name consists of letters, digits and dashes, with its chapter's folder first, as ch03/rbm",
        name,
    )


@dataclass(frozen=True)
class Render:
    """Rewrite the tables of the READMEs from the records."""

    check: bool = False
    """Do not rewrite; exit with 1 if a table differs from the records."""


@dataclass(frozen=True)
class Picture:
    """Copy a figure of a recorded run into docs/pictures/, for the pages."""

    record: Annotated[str, tyro.conf.Positional]
    """Name of the record, as ch03/rbm."""
    figure: Annotated[str, tyro.conf.Positional]
    """Name of the figure in the run's folder: filters or walk.gif."""
    seed: int = 0
    """Seed of the run."""

    def __post_init__(self) -> None:
        require_name(self.record)
        require("/" in self.record, "the record of a picture must be in a chapter's folder, as ch03/rbm", self.record)


@dataclass(frozen=True)
class Aims:
    """List the recorded figures that miss their target in results/targets.toml."""


@dataclass(frozen=True)
class Devices:
    """Time the training steps of every chapter on every device of this machine, and save the timings in results/."""

    name: str = "devices"
    """Name of the record; the READMEs show the one called devices."""

    def __post_init__(self) -> None:
        require_name(self.name)


def record(options: Record, command: Sequence[str]) -> Path:
    """Run `python -m <command> --seed s` for each seed, combine the summaries, and write the record."""
    if not command:
        raise ValueError("nothing to record: put the command after --, as in: record NAME -- ch03_x.train feedforward")
    out = tables.ROOT / "runs" / "ledger" / options.name
    shutil.rmtree(out, ignore_errors=True)
    summaries, output, before = [], [], matrix_product_rate()
    for seed in range(options.seeds):
        words = [sys.executable, "-m", *command, "--seed", str(seed), "--out", str(out / str(seed))]
        print(f"$ {shlex.join(['python', '-m', *command])} --seed {seed}", flush=True)
        printed = run_command(words)
        if printed is None:
            raise ValueError(f"seed {seed} failed; nothing was recorded")
        if seed == 0:
            output = shorten(printed, {str(data_dir().resolve()): "data", str(out / "0"): "runs"})
        found = list((out / str(seed)).glob("*/*/*/summary.json"))
        if len(found) != 1:
            raise ValueError(f"the command made {len(found)} runs; record one program at a time")
        summaries.append(read_json(found[0]))
    machine_rates = {"before": before, "after": matrix_product_rate()}
    entry = summarise(options, command, summaries) | {"output": output, "matrix_product_gflops": machine_rates}
    if options.rates:
        require_steady(entry)
    else:
        entry["metrics"] = {name: figure for name, figure in entry["metrics"].items() if not TIMED.search(name)}
    path = tables.RESULTS / f"{options.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, entry)
    print(f"recorded {path}")
    return path


def run_command(words: Sequence[str]) -> str | None:
    """Run a command in the project's root, print its output, and return it, or None if the command failed."""
    environment = {**os.environ, "DATA_DIR": str(data_dir().resolve())}
    lines = []
    with subprocess.Popen(words, cwd=tables.ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return None if process.returncode else "".join(lines)


HEAD, TAIL = 5, 7
"""Number of first and last lines of the first seed's output that a record keeps."""


def shorten(printed: str, folders: dict[str, str]) -> list[str]:
    """Keep the first and the last lines of a run's output, with the folders of this machine replaced."""
    for path, name in folders.items():
        printed = printed.replace(path, name)
    lines = printed.rstrip().splitlines()
    return lines if len(lines) <= HEAD + TAIL + 1 else [*lines[:HEAD], "...", *lines[-TAIL:]]


RATE = re.compile(r"_per_second$|_gflops$")
TIMED = re.compile(r"_per_second$|_gflops$|(^|_)(milli|micro)?seconds$")
"""Names of throughput metrics, and of throughput metrics and durations."""

TOLERANCE = 0.05
"""Largest accepted variation of a rate, relative to its mean."""


def require_steady(entry: dict[str, Any]) -> None:
    """Raise ValueError if the machine was busy: its matrix-product rate or a recorded rate varies too much."""
    before, after = entry["matrix_product_gflops"].values()
    changes = {"the machine's matrix-product rate": abs(after - before) / before}
    for name, figure in entry["metrics"].items():
        if RATE.search(name) and figure["mean"] > 0:
            changes[name] = figure["sd"] / figure["mean"]
    for name, change in changes.items():
        if change > TOLERANCE:
            raise ValueError(
                f"{name} varies by {100 * change:.0f} %, more than {100 * TOLERANCE:.0f} %: nothing was recorded; "
                "record on a quiet machine, or with --no-rates"
            )


def summarise(options: Record, command: Sequence[str], summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Combine the summaries of several seeds into one record of the metrics that all of them have."""
    first = summaries[0]
    shared = [name for name in first["metrics"] if all(name in summary["metrics"] for summary in summaries)]
    values = {name: [summary["metrics"][name] for summary in summaries] for name in shared}
    return {
        "title": options.title,
        "command": shlex.join(["python", "-m", *command]),
        "data": first["data"],
        "n": len(summaries),
        "seeds": [summary["config"]["run"]["seed"] for summary in summaries],
        "metrics": {name: spread(numbers) for name, numbers in values.items()},
        "seconds": spread([summary["seconds"] for summary in summaries]),
        "steps": [summary.get("steps", 0) for summary in summaries],
        "device": first["device"],
        "machine": describe_machine(),
        "versions": first["versions"],
        "date": date.today().isoformat(),
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation (0 for one value) and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
        "values": values,
    }


def main() -> None:
    """Read the command line."""
    words, command = sys.argv[1:], []
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1 :]
    with one_line_errors():
        options = parse(
            Record | Picture | Devices | Render | Aims,  # pyright: ignore[reportArgumentType]  # tyro takes unions as sub-commands
            words,
            prog="python -m common.records.ledger",
            description=__doc__ or "",
        )
        if isinstance(options, Record):
            record(options, command)
            return
        if isinstance(options, Picture):
            path = pictures.add_picture(options.record, options.figure, seed=options.seed)
            print(f"wrote {path.relative_to(tables.ROOT)}: {path.stat().st_size:,} bytes")
            return
        if isinstance(options, Aims):
            print("\n".join(tables.missed_targets()) or "every recorded figure meets its target")
            return
        if isinstance(options, Devices):
            path = tables.RESULTS / f"{options.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, time_chapters(tables.ROOT))
            print(f"recorded {path}")
            return
        stale = tables.stale_readmes()
        for path in stale:
            if not options.check:
                write_text(path, tables.render(path.read_text(encoding="utf-8"), path))
            print(f"{path.relative_to(tables.ROOT)} {'differs from the records' if options.check else 'rewritten'}")
        if options.check and stale:
            print("run python -m common.records.ledger render", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
