"""The engine without Snakemake: what it says is read, what a failed stage leaves is told, what has to end is ended."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ch09_pipeline import engine, graph
from ch09_pipeline.engine import Event, Job

# What Snakemake says.


OUTPUT = """\
Building DAG of jobs...
Job stats:
job        count
all            1

[Sat Nov 21 08:58:38 2026]
localrule train:
    input: a, b
    log: logs/train/dropout.log
    jobid: 5
    reason: Missing output files: x; Input files updated by another job: y
    wildcards: variant=dropout
    resources: tmpdir=/tmp
[Sat Nov 21 08:58:39 2026]
Finished jobid: 5 (Rule: train)
[Sat Nov 21 08:58:39 2026]
localrule publish:
    jobid: 1
    reason: Params have changed since last execution: Union of all: before: '--threshold 0' now: '--threshold 2'
RuleException:
Command 'x' returned non-zero exit status 2.
Error in rule publish:
    message: None
    jobid: 1
    log: logs/publish.log (check log file(s) for error details)
    shell:
        python -m ch09_pipeline.stages.publish
        (command exited with non-zero exit code)
"""


@pytest.mark.parametrize("stream", [OUTPUT.splitlines(), OUTPUT.splitlines(keepends=True)])
def test_events_are_read_from_what_snakemake_says(stream):
    train = Job(5, "train", "dropout", "not made yet")
    publish = Job(1, "publish", "", "parameters were '--threshold 0', are '--threshold 2'")
    expected = [Event("start", train), Event("finish", train), Event("start", publish)]
    assert list(engine.read_events(stream)) == [*expected, Event("error", publish, "logs/publish.log")]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Incomplete output files: x", "it was stopped half-way"),
        (
            "Params have changed since last execution: before: ['content 1'] now: ['content 2']",
            "its content has changed",
        ),
        ("Params have changed since last execution: before: 'code 1' now: 'code 2'", "the stage's code has changed"),
        ("Updated input files: x; Set of input files has changed since last execution", "a datum has come or gone"),
        ("Forced execution", "Forced execution"),
    ],
)
def test_reasons_are_told_in_a_few_words(reason, told):
    assert engine.explain(reason) == told


def test_a_variant_is_written_where_it_is_evaluated_and_nowhere_else():
    lines = [
        '\t1[label = "train\\nvariant: nodropout", color = "0.5 0.6 0.85", style="rounded"];',
        '\t2[label = "evaluate", color = "0.1 0.6 0.85", style="rounded,dashed"];',
        '\t3[label = "publish", color = "0.3 0.6 0.85", style="rounded"];',
        "\t1 -> 2",
        "\t1 -> 3",
    ]
    jobs = graph.read_jobs(lines)
    assert {job["rule"]: (job["of"], job["due"]) for _, job in jobs.nodes.items()} == {
        "train": ("nodropout", True),
        "evaluate": ("nodropout", False),
        "publish": ("", True),
    }


# What a failed stage leaves.


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (None, "it ended without a word"),
        ("", "it ended without a word"),
        ("epoch 1/5\nerror: too few images\n", "too few images ({log})"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'y'\n", "KeyError: 'y' ({log})"),
        ("epoch 1/5\nepoch 2/5\n", "it ended without a reason, after: epoch 2/5 ({log})"),
    ],
)
def test_the_reason_of_a_failed_stage_is_told_and_progress_is_none(tmp_path, words, told):
    log = tmp_path / "train.log"
    if words is not None:
        log.write_text(words)
    event = Event("error", Job(1, "train", "dropout", ""), "train.log")
    assert engine._last_words(tmp_path, event) == told.format(log=log)


# A small program in the place of Snakemake.


def put_in_its_place(monkeypatch, program: str) -> list[tuple[str, ...]]:
    """Let the engine start a program of Python; gives the flags that it is started with."""
    asked: list[tuple[str, ...]] = []

    def start(work: Path, *flags: str, lock: int | None = None) -> subprocess.Popen[str]:
        asked.append(flags)
        command = [sys.executable, "-c", program]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    monkeypatch.setattr(engine, "start", start)
    return asked


def test_where_snakemake_fails_its_last_three_lines_are_told(tmp_path, monkeypatch):
    put_in_its_place(monkeypatch, "print('one', 'two', '', 'three', 'four', '', sep='\\n'); raise SystemExit(1)")
    with pytest.raises(ValueError, match=r"^Snakemake failed: two three four$"):
        engine.ask(tmp_path)
    with pytest.raises(ValueError, match=r"^Snakemake failed: two three four$"):
        list(engine.run(tmp_path, 1, lock=0))
    put_in_its_place(monkeypatch, "raise SystemExit(1)")
    with pytest.raises(ValueError, match=r"^Snakemake failed: nothing$"):
        engine.ask(tmp_path)


def test_a_run_asks_for_its_cores_and_gives_the_handler_of_sigterm_back(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    block = "rule train:\n    jobid: 1\n\n"
    asked = put_in_its_place(monkeypatch, f"import time; print({block!r}, flush=True); time.sleep(60)")
    events = engine.run(tmp_path, 3, lock=0)
    assert next(events).job.rule == "train"
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    events.close()
    assert signal.getsignal(signal.SIGTERM) is before
    assert asked == [("--cores", "3", "--keep-going")]


def test_a_run_that_cannot_start_gives_the_handler_of_sigterm_back(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Snakemake is not installed"):
        list(engine.run(tmp_path, 1, lock=0))
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_ignores_the_interrupt_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", 0.3)
    ignore = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    put_in_its_place(monkeypatch, f"{ignore}; print('ready', flush=True); time.sleep(60)")
    process = engine.start(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    engine._stop(process)
    assert process.returncode == -signal.SIGKILL


def test_jobs_end_with_an_engine_that_is_gone():
    reader, writer = os.pipe()  # it is at its end once the last process that writes to it is gone
    process = subprocess.Popen(["sh", "-c", "sleep 60 & exit 1"], stdout=writer, start_new_session=True, text=True)
    os.close(writer)
    process.wait()
    assert not select.select([reader], [], [], 0.2)[0], "the job ends with its engine by itself"
    engine._stop(process)
    assert select.select([reader], [], [], 10)[0], "the job lives on"
    assert os.read(reader, 1) == b""
    os.close(reader)
