"""Snakemake as the engine: what it would run and why, and running it; its state lies in the work folder."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Literal

from ch09_pipeline.sources import ROOT

SNAKEFILE = Path(__file__).with_name("Snakefile")
SETTINGS = "settings.json"
CHECKSUM_BYTES = 10**12
"""Snakemake compares files up to this size by content, larger ones by time."""
PATIENCE = 10.0
"""Seconds that a stopped engine has to end its jobs."""

REASONS = [
    (r"Missing output files", "not made yet"),
    (r"Incomplete output files", "it was stopped half-way"),
    (r"Set of input files has changed", "a datum has come or gone"),
    (r"'content |Updated input files", "its content has changed"),
    (r"'code ", "the stage's code has changed"),
    (r"Params have changed.*before: (?P<before>.*) now: (?P<now>.*)", "parameters were {before}, are {now}"),
    (r"Code has changed", "its command has changed"),
    (r"Input files updated by another job", "follows from what is new"),
]
"""What Snakemake says, and how it is told here; the first that fits counts."""


@dataclass(frozen=True)
class Job:
    """A stage on its datum or its variant."""

    number: int
    rule: str
    of: str
    """The datum or the variant; nothing for a stage that runs once."""
    reason: str

    @property
    def name(self) -> str:
        """Name the job: `train nodropout`."""
        return f"{self.rule} {self.of}".strip()


@dataclass(frozen=True)
class Event:
    """Something that Snakemake reports of a job."""

    kind: Literal["start", "finish", "error"]
    job: Job
    log: str = ""
    """Where a failed job has said why."""


def explain(reason: str) -> str:
    """Tell in a few words why a job runs."""
    for pattern, text in REASONS:
        if found := re.search(pattern, reason):
            return text.format(**found.groupdict())
    return reason


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read Snakemake's output: an indented block a job under `rule train:` or `Error in rule train:`; what finished."""
    jobs: dict[int, Job] = {}
    head, fields = "", dict[str, str]()
    for line in chain(lines, [""]):
        if head and line.startswith("    "):
            key, _, value = line.strip().partition(": ")
            fields.setdefault(key, value)
            continue
        if head:
            number, of = int(fields.get("jobid", -1)), fields.get("wildcards", "").partition("=")[2]
            job = Job(number, head.split()[-1], of, explain(fields.get("reason", "")))
            if head.startswith("Error"):
                yield Event("error", jobs.get(number, job), fields.get("log", "").partition(" (check log")[0])
            else:
                jobs[number] = job
                yield Event("start", job)
            head, fields = "", {}
        if found := re.match(r"(?:local)?(rule \w+|Error in rule \w+):\s*$", line):
            head = found[1]
        elif found := re.match(r"Finished jobid: (\d+)", line):
            yield Event("finish", jobs[int(found[1])])


def start(work: Path, *flags: str, lock: int | None = None) -> subprocess.Popen[str]:
    """Start Snakemake in a session of its own, all that it says in one stream; it holds the lock as well.

    Raises ValueError where it is not installed.
    """
    if find_spec("snakemake") is None:
        raise ValueError("Snakemake is not installed: pip install '.[pipeline]'")
    work = work.resolve()
    words = ["--snakefile", SNAKEFILE, "--directory", work, "--configfile", work / SETTINGS, "--nocolor", "--nolock"]
    words += ["--scheduler", "greedy", "--rerun-incomplete", "--max-checksum-file-size", CHECKSUM_BYTES]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *map(str, words), *flags],
        cwd=work,  # where Python looks for modules first: no other copy of the suite
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        pass_fds=() if lock is None else (lock,),
    )


@contextmanager
def alone(work: Path) -> Iterator[int]:
    """Keep other runs out of a work folder; give the lock, which is the system's and ends with those that hold it.

    Raises ValueError where another run is at work there.
    """
    with (work / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another run is at work in {work}: wait for it, or choose another --out") from error
        yield file.fileno()


def _check(process: subprocess.Popen[str], lines: list[str]) -> None:
    if process.returncode:
        said = [line for line in lines if line.strip()] or ["nothing"]
        raise ValueError(f"Snakemake failed: {' '.join(said[-3:])}")


def ask(work: Path, *flags: str) -> list[str]:
    """Give what Snakemake answers, in lines, while nothing is run.

    Raises ValueError, with the last lines that it said, where it fails.
    """
    process = start(work, "--cores", "1", *flags)
    lines = process.communicate()[0].splitlines()
    _check(process, lines)
    return lines


def plan(work: Path) -> list[Job]:
    """List the jobs that would run now, and why."""
    return [event.job for event in read_events(ask(work, "--dry-run")) if event.job.rule != "all"]


def _remember(stream: Iterable[str], lines: list[str]) -> Iterator[str]:
    for line in stream:
        lines.append(line.rstrip())
        yield line


def _last_words(work: Path, event: Event) -> str:
    """Give the reason that a failed stage wrote last, and where there is more; one that was killed has written none."""
    log = work / event.log
    words = log.read_text(encoding="utf-8").splitlines() if event.log and log.is_file() else []
    if not words:
        return "it ended without a word"
    if words[-1].startswith("error: ") or "Traceback (most recent call last):" in words:
        return f"{words[-1].removeprefix('error: ')} ({log})"
    return f"it ended without a reason, after: {words[-1]} ({log})"


def _stop(process: subprocess.Popen[str]) -> None:
    """Interrupt the engine and its jobs, and end those that do not follow."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=PATIENCE)
    with suppress(ProcessLookupError, PermissionError):  # the jobs of an engine that was killed live on without it
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()


def run(work: Path, cores: int, lock: int) -> Generator[Event, None, None]:
    """Run what has to be run, and report each job's start and end.

    Raises ValueError, with the failed stage's own words, once everything else is done. A caller that stops early, by
    Ctrl-C or because it is told to end, stops the jobs as well.
    """
    lines: list[str] = []
    failed: dict[int, str] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        process = start(work, "--cores", str(cores), "--keep-going", lock=lock)
        try:
            assert process.stdout is not None
            for event in read_events(_remember(process.stdout, lines)):
                if event.kind == "error":
                    failed[event.job.number] = f"{event.job.name}: {_last_words(work, event)}"
                elif event.job.rule != "all":
                    yield event
            process.wait()
        finally:
            _stop(process)
    finally:
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise ValueError("; ".join(failed.values()))
    _check(process, lines)
