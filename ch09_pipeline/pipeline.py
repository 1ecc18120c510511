"""Run the pipeline: from batches of images to a published model, rerunning only what changed.

    python -m ch09_pipeline.train pipeline
    python -m ch09_pipeline.train pipeline --data data/cifar-10-batches-bin --epochs 10
    python -m ch09_pipeline.train pipeline --variants nodropout --epochs 30 --threshold 0.9
    python -m ch09_pipeline.train pipeline --profile slurm --dry-run

The first run without --data writes the embedded shapes as batches to the work folder, `runs/ch09_pipeline/work/shapes`.
Change, remove or add a batch there, and run again. Every stage writes to its own folder beside them.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ch09_pipeline import engine, names, repository
from ch09_pipeline.card import checksum, is_card, read_card
from ch09_pipeline.engine import Job
from common.cli import INTERRUPTED, TERMINATED, Terminated
from common.config import RunOptions, require, require_positive
from common.files import explain_unwritable, read_json, write_json
from common.progress import print_table, say
from common.run import Run

STAGES = ("prepare", "train", "evaluate", "compare", "publish", "predict")
MAX_LISTED = 4
"""Maximum number of names in a line; if there are more, the rest is counted."""


@dataclass(frozen=True)
class Config:
    """Settings of the pipeline."""

    data: Path | None = None
    """Folder of batches in CIFAR-10's binary layout, test*.bin for testing; by default the embedded shapes."""
    new: Path | None = None
    """Folder of new images to classify with the published model; by default a few embedded ones."""
    variants: tuple[Literal["dropout", "nodropout"], ...] = ("dropout", "nodropout")
    """Networks to train and compare: the book's network with dropout, and the same network without."""
    epochs: int = 12
    """Number of passes over the training images."""
    batch_size: int = 64
    """Images per training step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    threshold: float = 0.5
    """Minimum validation accuracy, between 0 and 1, for a model to be published."""
    jobs: int | None = None
    """Number of jobs that run in parallel; by default the number of processors, or that of the profile."""
    profile: str | None = None
    """Cluster for the jobs: slurm, kubernetes, or a folder with a Snakemake profile; by default, this machine."""
    dry_run: bool = False
    """List the jobs that a run with these settings would run, and stop."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate", "jobs")
        require(len(self.variants) > 0, "--variants needs at least one", self.variants)
        require(0 <= self.threshold <= 1, "--threshold must be between 0 and 1", self.threshold)


def work_folder(options: RunOptions, data: Path | None) -> Path:
    """Return the folder of the stages' results; it is named after the data folder."""
    return options.out / "ch09_pipeline" / "work" / ("shapes" if data is None else names.encode(data.resolve().name))


def check_repository(work: Path, data: Path) -> None:
    """Raise ValueError if the last run in a work folder used another data folder that still exists."""
    if (work / engine.SETTINGS).exists():
        used = Path(read_json(work / engine.SETTINGS)["data"])
        if used.is_dir() and used != data.resolve():
            raise ValueError(f"the last run in {work} was on {used}, not on {data}: choose another --out")


def settings(config: Config, work: Path, data: Path, new: Path) -> dict[str, Any]:
    """Convert a Config to the settings of the Snakefile and the engine."""
    threads = os.cpu_count() or 1 if config.run.threads == 0 else config.run.threads or 1
    training = {
        "epochs": config.epochs,
        "batch-size": config.batch_size,
        "learning-rate": config.learning_rate,
        "seed": config.run.seed,
        "limit": config.run.limit,
        "threads": threads,
        "device": config.run.device,
        "precision": config.run.precision,
    }
    return {
        "python": sys.executable,
        "data": str(data.resolve()),
        "new": str(new.resolve()),
        "publish": str(work.resolve() / "publish"),
        "profile": str(engine.find_profile(config.profile)) if config.profile else None,
        "variants": sorted(set(config.variants)),
        "threads": threads,
        "flags": {
            "prepare": "",
            "train": " ".join(f"--{name} {value}" for name, value in training.items() if value is not None),
            "evaluate": f"--threads {threads}",
            "compare": "",
            "publish": f"--threshold {config.threshold}",
            "predict": f"--threads {threads}",
        },
    }


def is_complete(card: Path) -> bool:
    """Return whether a card exists and its output files match it."""
    try:
        read_card(card)
    except (OSError, ValueError):
        return False
    return True


def list_names(listed: Sequence[str]) -> str:
    """Join up to MAX_LISTED names; of a longer list, join the first ones and count the rest."""
    if len(listed) <= MAX_LISTED:
        return ", ".join(listed)
    return f"{', '.join(listed[: MAX_LISTED - 1])} and {len(listed) - MAX_LISTED + 1} more"


def list_by_reason(jobs: Sequence[Job]) -> list[str]:
    """Describe the jobs of a stage, one line per reason."""
    lines = []
    for reason in dict.fromkeys(job.reason for job in jobs):
        listed = sorted(job.item for job in jobs if job.reason == reason)
        lines.append(f"{list_names(listed)}: {reason}" if listed[0] else reason)
    return lines


def print_due(due: Sequence[Job]) -> None:
    """Print the due jobs of each stage by reason."""
    for stage in STAGES:
        for line in list_by_reason([job for job in due if job.rule == stage]) or ["up to date"]:
            say(stage, line)


def run_jobs(work: Path, parallel: int | None, lock: int) -> list[Job]:
    """Run the due jobs, print each stage with the reasons when it is complete, and return the jobs."""
    due = engine.plan(work)
    if not due:
        say("jobs", "nothing to do: all results are up to date with data, code and settings")
        return []
    expected = Counter(job.rule for job in due)
    done: list[Job] = []
    running: dict[int, str] = {}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    columns = (
        TextColumn("jobs    "),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(due))
        with closing(engine.run(work, parallel, lock)) as events:
            for event in events:
                job = event.job
                if event.kind == "start":
                    running[job.number] = job.name
                else:
                    del running[job.number]
                    done.append(job)
                    finished = [other for other in done if other.rule == job.rule]
                    for line in list_by_reason(finished) if len(finished) == expected[job.rule] else ():
                        bar.console.print(f"{job.rule:<8} {line}")
                bar.update(task, completed=len(done), description=", ".join(running.values()))
    return done


def quarantined(work: Path, data: Path, new: Path) -> list[str]:
    """List the reasons for quarantine of the batches and images that have not changed since their stage ran."""
    results = {path: work / f"prepare/{names.encode(path.stem)}.json" for path in names.batches(data)}
    results |= {path: work / f"predict/{names.encode(path.name)}.json" for path in names.pictures(new)}
    reasons = []
    for path, card in results.items():
        content = read_json(card) if card.is_file() else {}
        reason = content["facts"]["quarantined"] if is_card(content) else None
        if reason and content["inputs"].get(path.name) == checksum(path):
            reasons.append(reason)
    return reasons


def report(run: Run, work: Path, new: Path) -> dict[str, float]:
    """Print the compared models, quarantined files, predictions and the published model; return the metrics."""
    rows = read_card(work / "compare/card.json").facts["rows"]
    columns = ("variant", "valid_accuracy", "test_accuracy", "test_worst_class_accuracy", "test_loss")
    print_table([name.replace("_", " ") for name in columns], [[row[name] for name in columns] for row in rows])
    published = read_card(work / "publish/card.json")
    evaluated = read_card(work / f"evaluate/{published.facts['variant']}/card.json")
    predicted = [read_card(work / f"predict/{names.encode(path.name)}.json") for path in names.pictures(new)]
    for name, source in (("comparison", work / "compare"), ("confusion", evaluated.folder)):
        with run.writing(f"{name}.png") as path:
            shutil.copyfile(source / f"{name}.png", path)
    broken = [*published.facts["quarantined"].values(), *evaluated.facts["quarantined"].values()]
    broken += [card.facts["quarantined"] for card in predicted if card.facts["quarantined"]]
    for reason in broken:
        say("broken", f"in quarantine: {reason}")
    if predicted:
        say("new", f"{list_names([card.facts['summary'] for card in predicted])}, in {work / 'predict'}")
    say("publish", f"{published.facts['variant']}, in {work / 'publish'}")
    return {
        "datums": sum(images > 0 for images in published.facts["datums"].values()) + evaluated.facts["datums"],
        "quarantined": len(broken),
        **{name: published.facts["metrics"][name] for name in ("valid_accuracy", "test_accuracy", "test_loss")},
        **{f"{row['variant']}_{name}": row[name] for row in rows for name in ("valid_accuracy", "test_accuracy")},
    }


def train(config: Config) -> dict[str, float]:
    """Run the due jobs; return the metrics of the published model and the number of jobs.

    In a dry run, print the due jobs and return their number.
    """
    if config.run.resume:
        raise ValueError("--resume is not needed: every run continues where the last one stopped")
    work = work_folder(config.run, config.data)
    data, new = config.data or work / "data", config.new or work / "new"
    require(config.new is None or new.is_dir(), "--new must be a folder", new)
    require(
        not names.WILDCARD.search(str(work.resolve())), "--out must be a folder without {} and <> in its path", work
    )
    check_repository(work, data)
    if new.is_dir():
        names.check_pictures(new)
    chosen = settings(config, work, data, new)
    if config.data is None:
        with explain_unwritable(config.run.out):
            repository.embed_batches(data)
    card = repository.describe(data, name=names.decode(work.name), embedded=config.data is None)
    with explain_unwritable(config.run.out):  # only now, so that a missing data folder does not create a work folder
        work.mkdir(parents=True, exist_ok=True)
        if config.new is None:
            repository.embed_pictures(new)
    if config.dry_run:
        with engine.locked(work):
            write_json(work / engine.SETTINGS, chosen)
            due = engine.plan(work)
        print_due(due)
        say("jobs", f"{len(due)} due; nothing was run")
        return {"jobs": len(due)}
    with engine.locked(work) as lock, Run.open(__name__, config, card) as run:
        write_json(work / engine.SETTINGS, chosen)
        if not is_complete(work / "publish" / "card.json"):
            (work / "published.json").unlink(missing_ok=True)  # the published model is incomplete: publish again
        try:
            jobs = run_jobs(work, config.jobs or (None if config.profile else os.cpu_count() or 1), lock)
        except KeyboardInterrupt as signalled:
            say("stopped", f"finished jobs are kept; continue with: {run.command}")
            sys.exit(TERMINATED if isinstance(signalled, Terminated) else INTERRUPTED)
        return run.finish(run={"jobs": len(jobs), **report(run, work, new)})
