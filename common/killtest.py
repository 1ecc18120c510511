"""Kill training programs at random moments, resume them, and compare their weights with those of an undisturbed run.

python -m common.killtest                                # every program that saves checkpoints, on embedded data
python -m common.killtest feedforward vae --seed 3       # two of them, killed at other moments
python -m common.killtest --record                       # save the result in results/killtest.json

Each program is trained three times with the same settings: to the end; until SIGKILL, at a time drawn uniformly from
the duration of the first run; and from there to the end with `--resume`.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import tyro

from common.cli import one_line_errors, parse
from common.config import require
from common.device import describe_machine
from common.files import read_json, write_json
from common.records import tables
from common.records.ledger import spread

PROGRAMS = {
    words.split()[1]: words
    for words in (
        "ch01_graphs.train regression --epochs 10 --steps 1000 --rounds 1",
        "ch02_nn.train simple --steps 4000",
        "ch02_nn.train fizzbuzz --steps 100",
        "ch02_nn.train classifier --data digits --epochs 10",
        "ch03_autoencoder_rbm.train feedforward --data digits --epochs 30",
        "ch03_autoencoder_rbm.train autoencoder --data digits --epochs 30",
        "ch03_autoencoder_rbm.train rbm --data digits --epochs 6 --temperatures 50 --annealed-chains 10",
        "ch03_autoencoder_rbm.train dbn --data digits --hidden-sizes 64 64 --pretraining-epochs 4 --epochs 6",
        "ch03_autoencoder_rbm.train recommender --data planted --epochs 4",
        "ch04_cuda.train by_hand --data digits --epochs 40 --rounds 1 --seconds 0.01",
        "ch05_rnn.train language_model --data pydoc --hidden-size 32 --limit 40000 --epochs 4",
        "ch05_rnn.train word2vec --epochs 3",
        "ch05_rnn.train glove --epochs 10",
        "ch05_rnn.train fasttext --epochs 3",
        "ch05_rnn.train sentiment --data grammar --limit 1000 --epochs 4",
        "ch05_rnn.train seq2seq --limit 1000 --epochs 4",
        "ch05_rnn.train translation --limit 500 --epochs 4",
        "ch05_rnn.train captioning --limit 200 --epochs 4",
        "ch05_rnn.train memory_network --limit 2000 --epochs 4",
        "ch05_rnn.train forecast --epochs 5",
        "ch06_cnn.train cnn --data shapes --limit 300 --epochs 4",
        "ch06_cnn.train speedrun --data shapes --limit 600 --epochs 3",
        "ch06_cnn.train classics --network lenet --data shapes --limit 600 --epochs 4",
        "ch06_cnn.train detection --limit 200 --epochs 3",
        "ch06_cnn.train segmentation --network unet --limit 200 --epochs 3",
        "ch06_cnn.train spatial --data digits --task rotated --limit 300 --epochs 4",
        "ch06_cnn.train style --size 48 --epochs 10 --steps 8",
        "ch06_cnn.train fast_style --size 48 --image-size 32 --images 60 --width 4 --blocks 1 --epochs 4 --steps 3",
        "ch07_dqn.train maze_dqn --epochs 5 --steps 30",
        "ch07_dqn.train book --corrected --epochs 5 --steps 30",
        "ch07_dqn.train maze_actor_critic --epochs 5",
        "ch07_dqn.train reinforce --baseline --epochs 6 --environments 4",
        "ch07_dqn.train actor_critic --epochs 4 --environment-steps 8000",
        "ch07_dqn.train ppo --epochs 4 --environment-steps 4000",
        "ch07_dqn.train dqn --epochs 4 --environment-steps 5000",
        "ch07_dqn.train generalise --rows 3 --columns 4 --mazes 100 --tests 20 --large-tests 2 --epochs 2",
        "ch08_vae.train vae --data digits --epochs 8 --importance-samples 50 --likelihood-images 10",
        "ch08_vae.train gan --data digits --limit 600 --epochs 3",
        "ch08_vae.train semi_supervised_gan --data digits --limit 300 --labels 20 --epochs 4",
        "ch08_vae.train semi_supervised_vae --data digits --limit 300 --labels 20 --epochs 4",
        "ch08_vae.train mixture --epochs 6 --steps 50",
        "ch08_vae.train diffusion --data digits --limit 300 --epochs 4 --width 8 --sampling-steps 2",
    )
}
"""Small settings for the programs that save checkpoints and weights; all train for epochs, not for a time budget."""

ATTEMPTS = 5
"""Number of attempts to kill a program before it ends; each attempt draws a new moment."""


@dataclass(frozen=True)
class Options:
    """Options of the kill test."""

    programs: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(PROGRAMS)
    """Programs to test."""
    seed: int = 0
    """Random seed of the moments at which runs are killed."""
    out: Path = tables.ROOT / "runs" / "killtest"
    """Folder of the runs; emptied first."""
    record: bool = False
    """Save the result in results/killtest.json."""

    def __post_init__(self) -> None:
        for name in self.programs:
            require(name in PROGRAMS, f"the programs are {', '.join(PROGRAMS)}", name)
        require(not self.record or set(self.programs) == set(PROGRAMS), "--record needs every program", self.programs)


@dataclass(frozen=True)
class Outcome:
    """Result for one program."""

    program: str
    seconds: float
    """Seconds from the start of the run to the kill."""
    epochs: int
    """Epochs finished by then."""
    checkpoint: bool
    """Whether it had a checkpoint by then; without one, the resumed run starts at epoch 1."""
    identical: bool
    """Whether the weights of the resumed and the undisturbed run are bitwise identical."""


def kill_and_resume(words: list[str], out: Path, moments: random.Random) -> Outcome:
    """Train once undisturbed, once killed and resumed, and compare the weights.

    Raises ValueError if a run fails, or if it ends before the kill in every attempt.
    """
    words = [*words, "--device", "cpu", "--threads", "1"]
    whole, killed = out / "whole", out / "killed"
    _finish([*words, "--out", str(whole)], out)
    seconds = read_json(_folder(whole) / "summary.json")["seconds"]
    words += ["--out", str(killed)]
    for _ in range(ATTEMPTS):
        shutil.rmtree(killed, ignore_errors=True)
        moment = moments.uniform(0, seconds)
        with _start(words, out) as process:
            while process.poll() is None and not list(killed.glob("*/*/*/config.json")):
                time.sleep(0.001)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moment)
            process.kill()
        if not list(killed.glob("*/*/*/summary.json")):
            break
    else:
        raise ValueError(f"{words[1]} ended before the kill in {ATTEMPTS} attempts: increase its epochs or steps")
    folder = _folder(killed)
    log = folder / "metrics.jsonl"
    epochs = log.read_text(encoding="utf-8").count("\n") if log.exists() else 0
    checkpoint = (folder / "checkpoint.pt").exists()
    _finish([*words, "--resume"], out)
    return Outcome(words[1], moment, epochs, checkpoint, same_weights(_folder(whole), _folder(killed)))


def _start(words: list[str], out: Path) -> subprocess.Popen[bytes]:
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "DATA_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (out / "output").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=tables.ROOT, env=environment, stdout=output, stderr=output
        )


def _finish(words: list[str], out: Path) -> None:
    with _start(words, out) as process:
        process.wait()
    if process.returncode:
        printed = (out / "output").read_text(encoding="utf-8", errors="replace").splitlines() or ["(no output)"]
        raise ValueError(f"{words[1]} failed; last line of its output: {printed[-1]}")


def _folder(out: Path) -> Path:
    folders = [path.parent for path in out.glob("*/*/*/config.json")]
    require(len(folders) == 1, f"there must be one run in {out}", len(folders))
    return folders[0]


def same_weights(one: Path, other: Path) -> bool:
    """Return whether two runs have saved bitwise identical weights."""
    weights = [{path.name: path.read_bytes() for path in run.glob("*.safetensors")} for run in (one, other)]
    require(bool(weights[0]), "a run must save its weights", one)
    return weights[0] == weights[1]


def summarise(options: Options, outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    """Build the record of a test of all programs."""
    example = read_json(next(options.out.glob(f"{outcomes[0].program}/whole/*/*/*/summary.json")))
    counts = {
        "programs": len(outcomes),
        "resumed_identically": sum(outcome.identical for outcome in outcomes),
        "killed_after_a_checkpoint": sum(outcome.checkpoint for outcome in outcomes),
    }
    return {
        "title": "killed at a random moment, then resumed; embedded data",
        "command": "python -m common.killtest",
        "data": None,
        "n": 1,
        "seeds": [options.seed],
        "metrics": {name: spread([float(count)]) for name, count in counts.items()},
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "seconds": spread([seconds]),
        "device": example["device"],
        "machine": describe_machine(),
        "versions": example["versions"],
        "date": date.today().isoformat(),
    }


def main() -> None:
    """Read the command line, test the programs, and exit with 1 if weights differ."""
    with one_line_errors():
        options = parse(Options, sys.argv[1:], prog="python -m common.killtest", description=__doc__ or "")
        outcomes, began = [], time.perf_counter()
        shutil.rmtree(options.out, ignore_errors=True)
        for name in options.programs:
            moments = random.Random(f"{options.seed} {name}")  # independent of the other programs
            outcome = kill_and_resume(PROGRAMS[name].split(), options.out / name, moments)
            outcomes.append(outcome)
            state = "with a checkpoint" if outcome.checkpoint else "without a checkpoint"
            verdict = "identical weights" if outcome.identical else "DIFFERENT WEIGHTS"
            moment = f"killed after {outcome.seconds:.1f} s, {outcome.epochs} epochs, {state}"
            print(f"{name:<15} {moment}; resumed: {verdict}", flush=True)
        same = sum(outcome.identical for outcome in outcomes)
        print(f"{same} of {len(outcomes)} programs have the weights of the undisturbed run")
        if options.record:
            path = tables.RESULTS / "killtest.json"
            write_json(path, summarise(options, outcomes, time.perf_counter() - began))
            print(f"recorded {path}")
        if same < len(outcomes):
            sys.exit(1)


if __name__ == "__main__":
    main()
