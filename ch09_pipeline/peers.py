"""Comparison with plain Snakemake: duration of a run without changes, or after a change of one test batch.

    pip install '.[pipeline]'
    python -m ch09_pipeline.train peers
    python -m ch09_pipeline.train peers --change test-batch

Ours: `python -m ch09_pipeline.train pipeline`. The peer: the command `snakemake` with the same Snakefile and settings.

The same: work folder, data, due jobs, number of parallel jobs. Before each measurement nothing is changed, or one image
is removed from the test batch; the due jobs are counted. Different: ours describes the data, lists the due jobs with
their reasons before it runs them, locks the work folder, and writes a run folder with results and figures.
"""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ch09_pipeline import engine, pipeline, repository
from ch09_pipeline.sources import ROOT
from common.config import RunOptions, command_line, require_positive
from common.data.images.binary import CIFAR_RECORD
from common.peers import ROUNDS, Variant, command_seconds, compare, import_peer
from common.run import Run

BATCH = "test-2.bin"


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    change: Literal["none", "test-batch"] = "none"
    """What is changed before each measurement: nothing, or one image is removed from a test batch."""
    epochs: int = 1
    """Number of passes over the training images, in the first run; the measured runs do not train."""
    rounds: int = ROUNDS
    """Rounds of measurement after a warm-up; each command runs once in each."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "rounds")


def our_command(config: Config, data: Path, out: Path) -> list[str]:
    """Return the command of our pipeline."""
    # threshold 0, since a rejected model would end the run with an error
    changed = pipeline.Config(data=data, epochs=config.epochs, threshold=0.0, run=replace(config.run, out=out))
    return [sys.executable, *shlex.split(command_line(pipeline.__name__, changed))[1:]]


def plain_command(work: Path) -> list[str]:
    """Return the command of plain Snakemake for the same work folder."""
    files = [
        "--snakefile",
        str(engine.SNAKEFILE),
        "--configfile",
        str(work / engine.SETTINGS),
        "--directory",
        str(work),
    ]
    return [sys.executable, "-m", "snakemake", *files, "--cores", str(os.cpu_count() or 1)]


def remove_image(path: Path) -> None:
    """Remove the last image of a batch."""
    path.write_bytes(path.read_bytes()[:-CIFAR_RECORD])


def timed(command: list[str], config: Config, data: Path, work: Path, jobs: list[int]) -> Callable[[], float]:
    """Make a function that makes the change, counts the due jobs, and returns the seconds of the command."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}

    def measure() -> float:
        if config.change == "test-batch":
            remove_image(data / BATCH)
        jobs.append(len(engine.plan(work)))
        return command_seconds(command, folder=ROOT, environment=environment)

    return measure


def train(config: Config) -> dict[str, float]:
    """Run the pipeline once, then time both commands interleaved; return seconds, ratios and numbers of jobs."""
    import_peer("snakemake", "Snakemake", "peers", extra="pipeline")
    with tempfile.TemporaryDirectory() as scratch:
        data, out = Path(scratch) / "shapes", Path(scratch) / "runs"
        repository.embed_batches(data)
        card = repository.describe(data, name="shapes", embedded=True)
        with Run.open(__name__, config, card, packages=("snakemake",)) as run:
            work = pipeline.work_folder(replace(config.run, out=out), data).resolve()
            ours, plain = our_command(config, data, out), plain_command(work)
            measures = {"first_run_seconds": command_seconds(ours, folder=ROOT)}
            jobs: dict[str, list[int]] = {"ours": [], "snakemake": []}
            measures |= compare(
                run,
                {"ours": Variant("ours", timed(ours, config, data, work, jobs["ours"]))},
                {"snakemake": Variant("snakemake", timed(plain, config, data, work, jobs["snakemake"]))},
                "seconds",
                config.rounds,
            )
            for name, counts in jobs.items():
                if len(set(counts)) > 1:
                    raise ValueError(f"the number of jobs due before {name} differs between rounds: {counts}")
                measures[f"{name}_jobs"] = counts[0]
            return run.finish(run=measures)
