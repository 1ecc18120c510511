"""What the next run of the pipeline would do, and why; nothing is run.

    python -m ch09_pipeline.train status
    python -m ch09_pipeline.train status --data data/cifar-10-batches-bin

The settings are those of the last run; the data and the code are as they are now.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ch09_pipeline import engine
from ch09_pipeline.pipeline import account, check_repository, work_folder
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


def train(config: Config) -> dict[str, float]:
    """Show which jobs are due, a line a stage and reason; return how many."""
    work = find_work(config)
    settings = read_json(work / engine.SETTINGS)
    say("data", f"{work.name}: {settings['data']}")
    due = engine.plan(work)
    for stage in STAGES:
        for line in account([job for job in due if job.rule == stage]) or ["up to date"]:
            say(stage, line)
    say("jobs", f"{len(due)} due" if due else "nothing to do")
    return {"jobs": len(due)}
