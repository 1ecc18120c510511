"""Average the answers of several memory networks that differ only in their random seed.

    python -m ch05_rnn.train restarts                                   # train three networks and average them
    python -m ch05_rnn.train restarts --data babi --restarts 5

`--folders` averages networks that are trained already: the run folders of memory_network, one after the other.

Training ends in different local minima (Sukhbaatar et al. 2015 repeat it ten times and keep the best). The mean of the
predicted probabilities is compared with the mean error of the networks and with the network that has the lowest
validation error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from ch05_rnn.memory import memory_network
from ch05_rnn.memory.memory_network import measure, predict, restore
from common.config import RunOptions, read_config, require, require_positive
from common.data.text.stories import Question, StoriesName, StorySet, load_stories
from common.progress import print_table
from common.run import Run
from common.run_folders.folder import finished_runs


@dataclass(frozen=True)
class Config:
    """Networks to average."""

    data: StoriesName = "stories"
    """Data set of the questions."""
    restarts: int = 3
    """Number of networks to train, with consecutive random seeds."""
    epochs: int | None = None
    """Training epochs of each network. Default: those of memory_network."""
    folders: tuple[Path, ...] | None = None
    """Run folders of memory_network to average. Default: train new networks."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "restarts", "epochs")
        several = self.restarts if self.folders is None else len(self.folders)
        require(several > 1, "an average needs at least 2 networks", several)


def probabilities(folder: Path, questions: Sequence[Question], answers: tuple[str, ...]) -> Tensor:
    """(N, C) probabilities of the answers by the network of a run folder

    Raises ValueError if the network was trained on questions with other answers.
    """
    network, encoder, _ = restore(folder)
    if encoder.answers.symbols != answers:
        raise ValueError(
            f"{folder} was trained on questions with other answers: give runs with the same --data and --limit"
        )
    return predict(network, encoder.encode(questions)).softmax(1)


def compare(folders: Sequence[Path], data: StorySet) -> dict[str, dict[str, float]]:
    """Measure the mean network, the network with the lowest validation error, and the average of the probabilities."""
    encoder = restore(folders[0])[1]
    p = {
        split: torch.stack(
            [probabilities(folder, questions, encoder.answers.symbols) for folder in folders]
        )  # (R, N, C)
        for split, questions in (("valid", data.valid), ("test", data.test))
    }
    correct = {
        split: p[split].argmax(2) == encoder.encode(questions).answers
        for split, questions in (("valid", data.valid), ("test", data.test))
    }
    each = [measure(row, data.test) for row in correct["test"]]
    best = int(correct["valid"].float().mean(1).argmax())
    average = p["test"].mean(0).argmax(1) == encoder.encode(data.test).answers
    return {
        "test_mean": {name: fmean(its[name] for its in each) for name in each[0]},
        "test_best": each[best],
        "test": measure(average, data.test),
    }


def train(config: Config, data: StorySet | None = None) -> dict[str, float]:
    """Train the networks, unless their folders are given, and return the test metrics of all ways to combine them."""
    folders = list(config.folders or [])
    for folder in folders:
        read_config(folder, memory_network.Config)  # raises an error now if it is not a run folder
    data = data or load_stories(config.data, limit=config.run.limit)
    with Run.open(__name__, config, data.card) as run:
        for number in range(0 if folders else config.restarts):
            seed = config.run.seed + number
            out = run.folder / "networks" / str(seed)
            options = replace(config.run, seed=seed, out=out, resume=False)
            own = memory_network.Config(data=config.data, run=options)
            memory_network.train(own if config.epochs is None else replace(own, epochs=config.epochs), data)
            folders += finished_runs(out, memory_network)
        measures = compare(folders, data)
        rows = [
            [title, *(f"{100 * its[f'{task}_error_rate']:.2f}" for its in measures.values())]
            for task, title in data.tasks.items()
            if f"{task}_error_rate" in measures["test"]
        ]
        rows.append(["mean", *(f"{100 * its['error_rate']:.2f}" for its in measures.values())])
        headings = ["task", f"mean of {len(folders)}", "best on validation", "averaged probabilities"]
        print_table(headings, rows, title="test error rate, %")
        return run.finish(**measures)
