"""Run Snakemake: list the due jobs with reasons, run them and report their events. Its state is in the work folder."""

import fcntl
import json
import os
import re
import shutil
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
from common.cli import sigterm_like_ctrl_c
from common.files import atomic_path, read_json

SNAKEFILE = Path(__file__).with_name("Snakefile")
PROFILES = Path(__file__).with_name("profiles")
"""Snakemake's settings for clusters, one folder per kind; `--profile` takes its name."""
PLUGINS = Path(__file__).with_name("plugins")
"""Folder of the logger plugin; `start` adds it to PYTHONPATH."""
SETTINGS = "settings.json"
CHECKSUM_BYTES = 10**12
"""Size in bytes up to which Snakemake compares files by checksum instead of date."""
PATIENCE = 10.0
"""Seconds that Snakemake has to stop its jobs after an interrupt before it is killed."""

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
"""Patterns of Snakemake's reasons for a job, and their replacements; the first match is used."""


@dataclass(frozen=True)
class Job:
    """A stage applied to a datum or a variant, or a stage that runs once."""

    number: int
    rule: str
    item: str
    """The datum or the variant; empty for a stage that runs once."""
    reason: str
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    """Input and output files, relative to the work folder; paths of raw data are absolute."""

    @property
    def name(self) -> str:
        """The name of the job, for example `train nodropout`."""
        return f"{self.rule} {self.item}".strip()


@dataclass(frozen=True)
class Event:
    """Start, end or failure of a job, as reported by Snakemake."""

    kind: Literal["start", "finish", "error"]
    job: Job
    log: str = ""
    """Log file of a failed job."""


@dataclass(frozen=True)
class Snakemake:
    """A Snakemake process and its output."""

    process: subprocess.Popen[bytes]
    events: TextIO
    """Events of the jobs, written by the logger plugin."""
    messages: IO[bytes]
    """Snakemake's own messages, in a temporary file."""


def explain(reason: str) -> str:
    """Replace Snakemake's reason for a job by a short one; an unknown reason is returned unchanged."""
    for pattern, text in REASONS:
        if found := re.search(f"(?:^|; )(?:{pattern})", reason):
            return text.format(**found.groupdict())
    return reason


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Parse the plugin's events, one JSON object per line; an incomplete last line is ignored."""
    jobs: dict[int, Job] = {}
    for line in lines:
        if not line.endswith("\n"):
            return
        entry = json.loads(line)
        number = entry["number"]
        if entry["event"] == "start":
            item = names.decode(next(iter(entry["wildcards"].values()), ""))
            files = tuple(entry["inputs"]), tuple(entry["outputs"])
            jobs[number] = Job(number, entry["rule"], item, explain(entry["reason"]), *files)
        yield Event(entry["event"], jobs[number], next(iter(entry.get("logs", ())), ""))


def find_profile(name: str) -> Path:
    """Return the folder of a profile: one of this chapter by its name, or a folder with a config.yaml.

    Raises ValueError if there is none, or if the plugin that it uses is not installed.
    """
    known = sorted(path.parent.name for path in PROFILES.glob("*/config.yaml"))
    folder = PROFILES / name if name in known else Path(name)
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"--profile {name}: not {' or '.join(known)}, and not a folder with a config.yaml")
    executor = re.search(r"^executor: *([\w-]+)", (folder / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    if executor and executor[1] not in ("local", "dryrun", "touch"):
        plugin = f"snakemake-executor-plugin-{executor[1]}"
        if find_spec(plugin.replace("-", "_")) is None:
            raise ValueError(f"--profile {name}: {plugin} is not installed: pip install '.[clusters]'")
    return folder.resolve()


def read_profile(work: Path) -> str | None:
    """Read the folder of the profile in the settings of a work folder; None if the jobs run on this machine."""
    return read_json(work / SETTINGS).get("profile") if (work / SETTINGS).is_file() else None


def command(work: Path, *flags: str, descriptor: int) -> list[str]:
    """Build Snakemake's command line; its events are written to the file descriptor `descriptor`."""
    words: list[object] = ["--snakefile", SNAKEFILE]
    if profile := read_profile(work):  # if the machines share no file system, they get the Snakefile and the settings
        words = ["--snakefile", work / SNAKEFILE.name, "--workflow-profile", profile, "--default-storage-prefix", work]
    words += ["--directory", work, "--configfile", work / SETTINGS, "--nocolor", "--nolock"]
    words += ["--scheduler", "greedy", "--rerun-incomplete", "--max-checksum-file-size", CHECKSUM_BYTES]
    words += ["--logger", "events", "--logger-events-descriptor", descriptor]
    return [sys.executable, "-m", "snakemake", *map(str, words), *flags]


def start(work: Path, *flags: str, lock: int | None = None) -> Snakemake:
    """Start Snakemake in a new session; it inherits the lock's file descriptor.

    Raises ValueError if Snakemake is not installed.
    """
    if find_spec("snakemake") is None:
        raise ValueError("Snakemake is not installed: pip install '.[pipeline]'")
    work = work.resolve()
    if read_profile(work):
        with atomic_path(work / SNAKEFILE.name) as temporary:
            shutil.copyfile(SNAKEFILE, temporary)
    path = os.pathsep.join(filter(None, [str(ROOT), str(PLUGINS), os.environ.get("PYTHONPATH")]))
    messages = tempfile.TemporaryFile()  # noqa: SIM115  # _stopping closes it
    reader, writer = os.pipe()
    events = os.fdopen(reader, encoding="utf-8")
    try:
        process = subprocess.Popen(
            command(work, *flags, descriptor=writer),
            cwd=work,  # first on Python's module path, so it must not contain another copy of the suite
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
def locked(work: Path) -> Iterator[int]:
    """Lock a work folder against other runs; yield the lock's file descriptor.

    The system releases the lock when all processes that have the descriptor exit. Raises ValueError if another run uses
    the folder.
    """
    with (work / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another run uses {work}: wait for it, or choose another --out") from error
        yield file.fileno()


def _check(running: Snakemake) -> None:
    """Raise ValueError with Snakemake's last three lines if it has failed."""
    if running.process.returncode:
        running.messages.seek(0)
        lines = [line for line in running.messages.read().decode(errors="replace").splitlines() if line.strip()]
        raise ValueError(f"Snakemake failed: {' '.join((lines or ['nothing'])[-3:])}")


def plan(work: Path, *flags: str) -> list[Job]:
    """List the due jobs and their reasons without running them.

    Raises ValueError, with Snakemake's last lines, if it fails.
    """
    with _stopping(start(work, "--cores", "1", "--dry-run", *flags)) as running:
        jobs = [event.job for event in read_events(running.events) if event.job.rule != "all"]
        running.process.wait()
        _check(running)
    return jobs


def _failure(work: Path, event: Event) -> str:
    """Describe a failure by the last line of the stage's log and the path of the log."""
    log = work / event.log
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if event.log and log.is_file() else []
    if not lines:
        return "it exited without output"
    if lines[-1].startswith("error: ") or "Traceback (most recent call last):" in lines:
        return f"{lines[-1].removeprefix('error: ')} ({log})"
    return f"it exited without an error message, after: {lines[-1]} ({log})"


@contextmanager
def _stopping(running: Snakemake) -> Iterator[Snakemake]:
    """Interrupt Snakemake and its jobs at the end of a block if they still run; kill those that do not stop."""
    process = running.process
    try:
        yield running
    finally:
        running.events.close()  # otherwise Snakemake could block on a full pipe and not stop
        for number in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=PATIENCE)
        with suppress(ProcessLookupError, PermissionError):  # a killed Snakemake leaves its jobs running
            os.killpg(process.pid, signal.SIGKILL)
        running.messages.close()


def run(work: Path, parallel: int | None, lock: int) -> Generator[Event, None, None]:
    """Run the due jobs, `parallel` at a time (None: as many as the profile says), and yield the start and end of each.

    Raises ValueError, with the failed stages' messages, after all other jobs have finished. If the caller stops early,
    for example by Ctrl-C or SIGTERM, the jobs are stopped as well.
    """
    failed: dict[int, str] = {}
    flags = [] if parallel is None else ["--jobs" if read_profile(work) else "--cores", str(parallel)]
    with (
        sigterm_like_ctrl_c(),
        _stopping(start(work, *flags, "--keep-going", lock=lock)) as running,
    ):
        for event in read_events(running.events):
            if event.kind == "error":
                failed[event.job.number] = f"{event.job.name}: {_failure(work, event)}"
                continue
            failed.pop(event.job.number, None)  # the profile repeats a failed job
            if event.job.rule != "all":
                yield event
        running.process.wait()
        if not failed:
            _check(running)
    if failed:
        raise ValueError("; ".join(failed.values()))
