"""Measure the time and number of jobs of the pipeline after each kind of change.

    python -m ch09_pipeline.train rerun_costs

There are five runs: the first one, one without changes, and one each after a batch was changed, a batch was removed,
and a test batch was changed. A time is that of the whole command `python -m ch09_pipeline.train pipeline`, including
the start of Python, on the embedded shapes in a temporary folder. `changed_batch.png` shows the jobs that are due after
the first change.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ch09_pipeline import graph, pipeline, repository
from ch09_pipeline.sources import ROOT
from common.config import RunOptions, command_line, require_positive
from common.data.images.binary import CIFAR_RECORD
from common.files import read_json
from common.progress import print_table
from common.run import Run


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    epochs: int = 12
    """Number of passes over the training images."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "epochs")


def train(config: Config) -> dict[str, float]:
    """Run the pipeline after each change; return the duration and number of jobs of each run."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "shapes"
        repository.embed_batches(data)
        card = repository.describe(data, name="shapes", embedded=True)
        with Run.open(__name__, config, card) as run:
            measures: dict[str, float] = {}
            rows = []
            for name, change in changes(data).items():
                change()
                if name == "changed_batch":
                    draw_due(run, pipeline.work_folder(replace(config.run, out=Path(scratch) / "runs"), data))
                seconds, jobs = run_once(config, data, Path(scratch) / "runs")
                measures |= {f"{name}_seconds": seconds, f"{name}_jobs": jobs}
                rows.append((name.replace("_", " "), f"{seconds:.1f}", jobs))
            print_table(["run", "seconds", "jobs"], rows)
            return run.finish(run=measures)


def draw_due(run: Run, work: Path) -> None:
    """Draw the jobs of a pipeline as `changed_batch.png`, with the due ones in orange."""
    from common.drawing import graphs

    boxes, _ = graph.pipeline_diagram(work)
    with run.writing("changed_batch.png") as path:
        graphs.save(boxes, path)


def changes(data: Path) -> dict[str, Callable[[], object]]:
    """Return the change made to the data before each run, by the name of the run."""
    return {
        "first_run": lambda: None,
        "nothing_to_do": lambda: None,
        "changed_batch": lambda: halve(data / "batch-07.bin"),
        "removed_batch": (data / "batch-08.bin").unlink,
        "changed_test_batch": lambda: halve(data / "test-2.bin"),
    }


def halve(path: Path) -> None:
    """Remove the second half of a batch."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // CIFAR_RECORD // 2 * CIFAR_RECORD])


def run_once(config: Config, data: Path, out: Path) -> tuple[float, int]:
    """Run the pipeline as a command; return its duration in seconds and its number of jobs.

    Raises ValueError, with the command's error output, if it fails.
    """
    # threshold 0, since a rejected model would end the run with an error
    changed = pipeline.Config(data=data, epochs=config.epochs, threshold=0.0, run=replace(config.run, out=out))
    words = shlex.split(command_line(pipeline.__name__, changed))
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - before
    if done.returncode:
        raise ValueError(f"the pipeline failed: {done.stderr.strip()}")
    newest = max(out.glob("ch09_pipeline/pipeline/*/summary.json"), key=lambda path: path.stat().st_mtime_ns)
    return seconds, int(read_json(newest)["metrics"]["jobs"])
