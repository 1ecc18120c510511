"""Snakemake as the engine: what it would run and why, and running it; its state lies in the work folder."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal, TextIO

from ch09_pipeline import names
from ch09_pipeline.sources import ROOT

SNAKEFILE = Path(__file__).with_name("Snakefile")
PLUGINS = Path(__file__).with_name("plugins")
"""Folder of the logger plugin, which Snakemake finds on Python's path."""
SETTINGS = "settings.json"
CHECKSUM_BYTES = 10**12
"""Snakemake compares files up to this size by content, larger ones by time."""
PATIENCE = 10.0
"""Seconds that a stopped engine has to end its jobs."""

REASONS = [
    (r"Missing output files", "not made yet"),
    (r"Incomplete output files", "its last run was interrupted"),
    (r"Set of input files has changed|Params have changed.*'datum ", "a datum was added or removed"),
    (r"Params have changed.*'content |Updated input files", "its content has changed"),
    (r"Params have changed.*'code ", "the stage's code has changed"),
    (r"Params have changed.*before: (?P<before>.*) now: (?P<now>.*)", "parameters were {before}, are {now}"),
    (r"Code has changed", "its command has changed"),
    (r"Input files updated by another job", "an input was updated"),
]
"""The reasons that Snakemake gives for a job, and how they are told here; the first that fits counts."""


@dataclass(frozen=True)
class Job:
    """A stage on its datum or its variant."""

    number: int
    rule: str
    of: str
    """The datum or the variant; nothing for a stage that runs once."""
    reason: str
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    """Files that it reads and writes, relative to the work folder; raw ones absolute."""

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


@dataclass(frozen=True)
class Snakemake:
    """A running Snakemake."""

    process: subprocess.Popen[bytes]
    events: TextIO
    """What its plugin writes: the events of the jobs."""
    messages: IO[bytes]
    """What it writes for people, in a temporary file."""


def explain(reason: str) -> str:
    """Tell in a few words why a job runs."""
    for pattern, text in REASONS:
        if found := re.search(f"(?:^|; )(?:{pattern})", reason):
            return text.format(**found.groupdict())
    return reason


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read the events that the plugin writes, a JSON object per line; one cut short by the end of Snakemake is left."""
    jobs: dict[int, Job] = {}
    for line in lines:
        if not line.endswith("\n"):
            return
        entry = json.loads(line)
        number = entry["number"]
        if entry["event"] == "start":
            of = names.decode(next(iter(entry["wildcards"].values()), ""))
            files = tuple(entry["inputs"]), tuple(entry["outputs"])
            jobs[number] = Job(number, entry["rule"], of, explain(entry["reason"]), *files)
        yield Event(entry["event"], jobs[number], next(iter(entry.get("logs", ())), ""))


def command(work: Path, *flags: str, descriptor: int) -> list[str]:
    """Spell the command that starts Snakemake; its events go to a file descriptor."""
    words = ["--snakefile", SNAKEFILE, "--directory", work, "--configfile", work / SETTINGS, "--nocolor", "--nolock"]
    words += ["--scheduler", "greedy", "--rerun-incomplete", "--max-checksum-file-size", CHECKSUM_BYTES]
    words += ["--logger", "events", "--logger-events-descriptor", descriptor]
    return [sys.executable, "-m", "snakemake", *map(str, words), *flags]


def start(work: Path, *flags: str, lock: int | None = None) -> Snakemake:
    """Start Snakemake in a session of its own; it holds the lock as well.

    Raises ValueError where it is not installed.
    """
    if find_spec("snakemake") is None:
        raise ValueError("Snakemake is not installed: pip install '.[pipeline]'")
    work = work.resolve()
    path = os.pathsep.join(filter(None, [str(ROOT), str(PLUGINS), os.environ.get("PYTHONPATH")]))
    messages = tempfile.TemporaryFile()  # noqa: SIM115  # _stopping closes it
    reader, writer = os.pipe()
    events = os.fdopen(reader, encoding="utf-8")
    try:
        process = subprocess.Popen(
            command(work, *flags, descriptor=writer),
            cwd=work,  # where Python looks for modules first: no other copy of the suite
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(writer,) if lock is None else (writer, lock),
        )
    except BaseException:
        events.close()
        messages.close()
        raise
    finally:
        os.close(writer)
    return Snakemake(process, events, messages)


@contextmanager
def alone(work: Path) -> Iterator[int]:
    """Keep other runs out of a work folder; give the lock, which is the system's and ends with those that hold it.

    Raises ValueError where another run is at work there.
    """
    with (work / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another run uses {work}: wait for it, or choose another --out") from error
        yield file.fileno()


def _check(running: Snakemake) -> None:
    """Raise ValueError, with the last lines that Snakemake wrote, where it has failed."""
    if running.process.returncode:
        running.messages.seek(0)
        lines = [line for line in running.messages.read().decode(errors="replace").splitlines() if line.strip()]
        raise ValueError(f"Snakemake failed: {' '.join((lines or ['nothing'])[-3:])}")


def plan(work: Path, *flags: str) -> list[Job]:
    """List the jobs that would run now, and why.

    Raises ValueError, with the last lines that Snakemake wrote, where it fails.
    """
    with _stopping(start(work, "--cores", "1", "--dry-run", *flags)) as running:
        jobs = [event.job for event in read_events(running.events) if event.job.rule != "all"]
        running.process.wait()
        _check(running)
    return jobs


def _last_words(work: Path, event: Event) -> str:
    """Give the reason that a failed stage wrote last, and where there is more; one that was killed has written none."""
    log = work / event.log
    words = log.read_text(encoding="utf-8", errors="replace").splitlines() if event.log and log.is_file() else []
    if not words:
        return "it exited without output"
    if words[-1].startswith("error: ") or "Traceback (most recent call last):" in words:
        return f"{words[-1].removeprefix('error: ')} ({log})"
    return f"it exited without an error message, after: {words[-1]} ({log})"


@contextmanager
def _stopping(running: Snakemake) -> Iterator[Snakemake]:
    """Interrupt the engine and its jobs at the end of a block, if they still run, and end those that do not follow."""
    process = running.process
    try:
        yield running
    finally:
        running.events.close()  # an engine that waits for its reader would not follow
        for number in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=PATIENCE)
        with suppress(ProcessLookupError, PermissionError):  # the jobs of an engine that was killed live on without it
            os.killpg(process.pid, signal.SIGKILL)
        running.messages.close()


def run(work: Path, cores: int, lock: int) -> Generator[Event, None, None]:
    """Run what has to be run, and report each job's start and end.

    Raises ValueError, with the failed stage's own words, once everything else is done. A caller that stops early, by
    Ctrl-C or because it is told to end, stops the jobs as well.
    """
    failed: dict[int, str] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _stopping(start(work, "--cores", str(cores), "--keep-going", lock=lock)) as running:
            for event in read_events(running.events):
                if event.kind == "error":
                    failed[event.job.number] = f"{event.job.name}: {_last_words(work, event)}"
                elif event.job.rule != "all":
                    yield event
            running.process.wait()
            if not failed:
                _check(running)
    finally:
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise ValueError("; ".join(failed.values()))
