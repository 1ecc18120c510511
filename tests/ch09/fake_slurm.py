#!/usr/bin/env python3
"""Commands of Slurm for tests: `sbatch` starts the job on this machine at once, and writes down what was asked for.

The tests put links to this file, named sbatch, srun, sacct ..., on PATH. FAKE_SLURM is the folder of the state: the
words of each submission in `<number>.json`, and the state of each job in `<number>.state`.
"""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SLURM"])


def read_states() -> dict[str, str]:
    """Read the state of every job."""
    return {path.stem: path.read_text().strip() for path in FOLDER.glob("*.state")}


def sbatch(words: list[str]) -> None:
    """Start the wrapped command in the background, in the folder -D, and print the number of the job."""
    options = dict(pairwise(words))
    command = next(word.removeprefix("--wrap=") for word in words if word.startswith("--wrap="))
    number = len(list(FOLDER.glob("*.json"))) + 1
    while True:
        try:
            with (FOLDER / f"{number}.json").open("x") as file:
                json.dump({"words": words, "folder": options["-D"]}, file)
            break
        except FileExistsError:
            number += 1
    state = FOLDER / f"{number}.state"
    state.write_text("RUNNING")
    log = Path(options["--output"].replace("%j", str(number)))
    script = f'({command}) && end=COMPLETED || end=FAILED; echo $end > "{state}.new"; mv "{state}.new" "{state}"'
    environment = {**os.environ, "SLURM_JOB_ID": str(number)}
    with log.open("w") as output:
        subprocess.Popen(
            ["bash", "-c", script],
            cwd=options["-D"],
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    print(number)


def srun(words: list[str]) -> None:
    """Replace this process by the command after the options."""
    start = next(place for place, word in enumerate(words) if not word.startswith("-"))
    os.execvp(words[start], words[start:])


def sacct(words: list[str]) -> None:
    """Wait for the end of all jobs, since the plugin asks less and less often; then print the state of each."""
    if "--format=JobIdRaw,State" in words:  # not the question for the user's last account
        deadline = time.monotonic() + 40
        while "RUNNING" in (states := read_states()).values() and time.monotonic() < deadline:
            time.sleep(0.02)
        for number, state in states.items():
            print(f"{number}|{state}")


def sinfo(words: list[str]) -> None:
    """Print the partitions; the default one has an asterisk."""
    print("PARTITION\ndebug*\ngpu")


def sacctmgr(words: list[str]) -> None:
    """Print the accounts of the user."""
    print("my-account")


def squeue(words: list[str]) -> None:
    """Do nothing: sacct is there."""


def scontrol(words: list[str]) -> None:
    """Print no setting."""


def scancel(words: list[str]) -> None:
    """Write down the cancelled jobs."""
    (FOLDER / "cancelled").write_text(" ".join(words))


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](sys.argv[1:])
