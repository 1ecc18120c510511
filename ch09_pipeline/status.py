"""List the due jobs of the pipeline and why they are due, without running them.

    python -m ch09_pipeline.train status
    python -m ch09_pipeline.train status --data data/cifar-10-batches-bin

The settings are those of the last run; data and code are the current ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ch09_pipeline import engine, names
from ch09_pipeline.pipeline import check_repository, print_due, quarantined, work_folder
from common.config import RunOptions
from common.files import read_json
from common.progress import say


@dataclass(frozen=True)
class Config:
    """Settings of the list."""

    data: Path | None = None
    """Folder of batches of the pipeline; by default the embedded shapes."""
    run: RunOptions = field(default_factory=RunOptions)


def find_work(config: Config) -> Path:
    """Find the work folder of a pipeline that has run.

    Raises FileNotFoundError if it has not run, ValueError if the last run there used another data folder.
    """
    work = work_folder(config.run, config.data)
    if not (work / engine.SETTINGS).exists():
        raise FileNotFoundError(f"no pipeline has run in {work}: start with python -m ch09_pipeline.train pipeline")
    check_repository(work, config.data or work / "data")
    return work


def folders(settings: Mapping[str, Any]) -> tuple[Path, Path]:
    """Return the folders of batches and of new images.

    Raises FileNotFoundError if one no longer exists, ValueError if a file has an unusable name or cannot be read.
    """
    data, new = Path(settings["data"]), Path(settings["new"])
    for folder, kind in ((data, "batches"), (new, "new images")):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}, the folder of {kind} of the last run, does not exist: restore it, or run again"
            )
    names.check_batches(data)
    names.check_pictures(new)
    return data, new


def train(config: Config) -> dict[str, float]:
    """Print the due jobs by stage and reason, and the quarantined files; return the number of each."""
    work = find_work(config)
    data, new = folders(read_json(work / engine.SETTINGS))
    say("data", f"{names.decode(work.name)}: {data}")
    due = engine.plan(work)
    print_due(due)
    broken = quarantined(work, data, new)
    for reason in broken:
        say("broken", f"in quarantine: {reason}")
    say("jobs", f"{len(due)} due" if due else "nothing to do")
    return {"jobs": len(due), "quarantined": len(broken)}
