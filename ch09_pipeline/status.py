"""What the next run of the pipeline would do, and why; nothing is run.

    python -m ch09_pipeline.train status
    python -m ch09_pipeline.train status --data data/cifar-10-batches-bin

The settings are those of the last run; the data and the code are as they are now.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ch09_pipeline import engine, names
from ch09_pipeline.pipeline import account, check_repository, quarantined, work_folder
from common.config import RunOptions
from common.files import read_json
from common.progress import say

STAGES = ("prepare", "train", "evaluate", "compare", "publish", "predict")


@dataclass(frozen=True)
class Config:
    """Which pipeline."""

    data: Path | None = None
    """Folder of batches that the pipeline was run on; by default the embedded shapes."""
    run: RunOptions = field(default_factory=RunOptions)


def find_work(config: Config) -> Path:
    """Find the work folder of a pipeline that has run.

    Raises FileNotFoundError where it has not, ValueError where the last run there was on another repository.
    """
    work = work_folder(config.run, config.data)
    if not (work / engine.SETTINGS).exists():
        raise FileNotFoundError(f"no pipeline has run in {work}: start with python -m ch09_pipeline.train pipeline")
    check_repository(work, config.data or work / "data")
    return work


def folders(settings: Mapping[str, Any]) -> tuple[Path, Path]:
    """Give the folders of batches and of new pictures.

    Raises FileNotFoundError where one is gone, ValueError for a file whose name cannot be used.
    """
    data, new = Path(settings["data"]), Path(settings["new"])
    for folder, kind in ((data, "batches"), (new, "new pictures")):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}, the folder of {kind} of the last run, is gone: restore it, or run again"
            )
    names.check_batches(data)
    names.check_pictures(new)
    return data, new


def train(config: Config) -> dict[str, float]:
    """Show which jobs are due, a line a stage and reason, and what is in quarantine; return how many of each."""
    work = find_work(config)
    data, new = folders(read_json(work / engine.SETTINGS))
    say("data", f"{names.decode(work.name)}: {data}")
    due = engine.plan(work)
    for stage in STAGES:
        for line in account([job for job in due if job.rule == stage]) or ["up to date"]:
            say(stage, line)
    broken = quarantined(work, data, new)
    for reason in broken:
        say("broken", f"in quarantine: {reason}")
    say("jobs", f"{len(due)} due" if due else "nothing to do")
    return {"jobs": len(due), "quarantined": len(broken)}
