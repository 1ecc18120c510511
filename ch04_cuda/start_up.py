"""Start-up time of this project's programs, compared with that of PyTorch.

    python -m ch04_cuda.train start_up
    python -m ch04_cuda.train start_up --chapters 3 10

Ours: `python -m CHAPTER.train PROGRAM --help` of one program per chapter. It imports every module of the chapter, reads
the command line and prints the flags. The peer: `python -c "import torch"`. Every program imports torch, so the
difference is the time that this project adds before a program starts its work.

The same: interpreter, environment and number of commands. Different: ours also prints a page of text.
"""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.config import RunOptions, require, require_positive
from common.peers import ROUNDS, Variant, command_seconds, compare
from common.run import Run

ROOT = Path(__file__).parents[1]

PROGRAMS = {
    1: "ch01_graphs.train expressions",
    2: "ch02_nn.train descent",
    3: "ch03_autoencoder_rbm.train feedforward",
    4: "ch04_cuda.train compare",
    5: "ch05_rnn.train language_model",
    6: "ch06_cnn.train cnn",
    7: "ch07_dqn.train q_table",
    8: "ch08_vae.train vae",
    9: "ch09_pipeline.train pipeline",
    10: "ch10_deploy.train export",
}
"""Chapter and first program of each chapter."""


@dataclass(frozen=True)
class Config:
    """Settings of the comparison."""

    chapters: tuple[int, ...] = tuple(PROGRAMS)
    """Numbers of the chapters whose first program is started."""
    rounds: int = ROUNDS
    """Rounds of measurement after a warm-up; every command runs once in each."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "rounds")
        require(len(self.chapters) > 0, "--chapters needs at least one number", "none")
        for chapter in self.chapters:
            require(chapter in PROGRAMS, "--chapters must be between 1 and 10", chapter)


def python(*words: str) -> partial[float]:
    """Make a function that runs Python in the project's root and returns its duration in seconds."""
    return partial(command_seconds, [sys.executable, *words], folder=ROOT)


def train(config: Config, data: None = None) -> dict[str, float]:  # noqa: ARG001
    """Time the commands interleaved; return the seconds of each, and the seconds more than `import torch`."""
    with Run.open(__name__, config) as run:
        peers = {"torch": Variant('python -c "import torch"', python("-c", "import torch"))}
        ours = {
            f"ch{chapter:02}": Variant(
                f"{PROGRAMS[chapter]} --help", python("-m", *PROGRAMS[chapter].split(), "--help")
            )
            for chapter in config.chapters
        }
        return run.finish(run=compare(run, ours, peers, "seconds", config.rounds))
