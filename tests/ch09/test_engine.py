"""The engine without Snakemake: parsing of events, reports of failures, termination of processes."""

import ast
import importlib.util
import itertools
import json
import logging
import os
import pkgutil
import select
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ch09_pipeline import engine, graph
from ch09_pipeline.engine import Event, Job

# Events and reasons.


def line(event: str, number: int, **fields: object) -> str:
    """Encode an event as the plugin does."""
    return json.dumps({"event": event, "number": number, **fields}) + "\n"


def start_line(number: int, rule: str, *, reason: str = "Missing output files: x", **wildcards: str) -> str:
    fields = {"inputs": ["a"], "outputs": ["b"]}
    return line("start", number, rule=rule, wildcards=wildcards, reason=reason, **fields)


def test_events_of_the_plugin_are_parsed():
    params = "Params have changed since last execution: Union of all: before: '--threshold 0' now: '--threshold 2'"
    stream = [
        start_line(
            5, "train", reason="Missing output files: x; Input files updated by another job: y", variant="dropout"
        ),
        start_line(2, "prepare", datum="x%7By%7D: z"),
        line("finish", 5),
        start_line(1, "publish", reason=params),
        line("error", 1, logs=["logs/publish.log", "more"]),
        line("error", 2, logs=[]),
    ]
    train = Job(5, "train", "dropout", "not made yet", ("a",), ("b",))
    prepare = Job(2, "prepare", "x{y}: z", "not made yet", ("a",), ("b",))
    publish = Job(1, "publish", "", "parameters were '--threshold 0', are '--threshold 2'", ("a",), ("b",))
    events = [Event("start", train), Event("start", prepare), Event("finish", train), Event("start", publish)]
    events += [Event("error", publish, "logs/publish.log"), Event("error", prepare, "")]
    assert list(engine.read_events(stream)) == events
    assert [event.job.name for event in events[1:]] == [
        "prepare x{y}: z",
        "train dropout",
        *["publish"] * 2,
        "prepare x{y}: z",
    ]


def test_an_incomplete_last_event_is_ignored():
    complete = start_line(1, "publish")
    assert [event.job.rule for event in engine.read_events([complete, complete[:-20]])] == ["publish"]
    assert [event.job.rule for event in engine.read_events([complete, complete.rstrip("\n")])] == ["publish"]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Missing output files: x", "not made yet"),
        ("Incomplete output files: x", "its last run was interrupted"),
        (
            "Params have changed since last execution: before: ['content 1'] now: ['content 2']",
            "its content has changed",
        ),
        ("Params have changed since last execution: before: 'code 1' now: 'code 2'", "the stage's code has changed"),
        (
            "Params have changed since last execution: before: 'datum x' now: 'content 1'",
            "a datum was added or removed",
        ),
        ("Updated input files: x; Set of input files has changed since last execution", "a datum was added or removed"),
        ("Input files updated by another job: x; Code has changed since last execution", "its command has changed"),
        ("Input files updated by another job: x", "an input was updated"),
        ("Updated input files: Missing output files.json", "its content has changed"),
        ("Input files updated by another job: prepare/Set of input files has changed.json", "an input was updated"),
        ("Forced execution", "Forced execution"),
    ],
)
def test_reasons_are_shortened(reason, message):
    assert engine.explain(reason) == message


def test_edges_connect_the_writer_of_a_file_to_its_readers():
    jobs = [
        Job(3, "publish", "", "", ("train/x/card.json", "/raw/file"), ("published.json",)),
        Job(1, "train", "x", "", (), ("train/x/card.json", "train/x/model")),
        Job(2, "evaluate", "x", "", ("train/x/card.json", "train/x/model"), ("evaluate/x/card.json",)),
    ]
    found = graph.job_graph(jobs, {"train x", "publish"})
    assert set(found.edges) == {(1, 2), (1, 3)}
    assert dict(found.nodes(data=True)) == {
        1: {"rule": "train", "item": "x", "due": True},
        2: {"rule": "evaluate", "item": "x", "due": False},
        3: {"rule": "publish", "item": "", "due": True},
    }


# The logger plugin.


def record(**fields: object) -> logging.LogRecord:
    return logging.makeLogRecord(fields)


def test_the_plugin_describes_start_end_and_failure_of_jobs_only():
    plugin = load_plugin()
    event = plugin.LogEvent
    info = {"jobid": 3, "rule_name": "prepare", "wildcards": {"datum": "x"}, "reason": "why", "log": ["logs/x.log"]}
    info |= {"input": ["a b", "c, d"], "output": ["e"]}
    started = {"number": 3, "rule": "prepare", "wildcards": {"datum": "x"}, "reason": "why"}
    started |= {"inputs": ["a b", "c, d"], "outputs": ["e"]}
    assert plugin.describe(record(event=event.JOB_INFO, **info)) == {"event": "start", **started}
    assert plugin.describe(record(event=event.JOB_FINISHED, job_id=3)) == {"event": "finish", "number": 3}
    failed = {"event": "error", "number": 3, "logs": ["logs/x.log"]}
    assert plugin.describe(record(event=event.JOB_ERROR, **info)) == failed
    assert plugin.describe(record(event=event.PROGRESS, done=1, total=2)) is None
    assert plugin.describe(record(msg="Building DAG of jobs...")) is None


def test_files_in_a_storage_have_their_paths_in_the_work_folder(tmp_path, monkeypatch):
    plugin = load_plugin()
    monkeypatch.chdir(tmp_path)
    info = {"jobid": 3, "rule_name": "train", "wildcards": {}, "reason": "why"}
    info |= {"input": [f"{tmp_path}/prepare/a.json (retrieve from storage)", "/raw/b"]}
    info |= {"output": [f"{tmp_path}/train/c (send to storage)", "d (send to storage).json"]}
    info |= {"log": [f"{tmp_path}/logs/train.log (send to storage)"]}
    started = plugin.describe(record(event=plugin.LogEvent.JOB_INFO, **info))
    assert (started["inputs"], started["outputs"]) == (
        ["prepare/a.json", "/raw/b"],
        ["train/c", "d (send to storage).json"],
    )
    assert plugin.describe(record(event=plugin.LogEvent.JOB_ERROR, **info))["logs"] == ["logs/train.log"]


def test_the_plugin_escapes_special_names_and_ignores_a_closed_pipe():
    plugin = load_plugin()
    reader, writer = os.pipe()
    handler = plugin.LogHandler(types.SimpleNamespace(), plugin.LogHandlerSettings(writer))
    finished = record(event=plugin.LogEvent.JOB_ERROR, jobid=1, log=["logs/two\nlines \u2028 \udcff.log"])
    handler.emit(record(msg="nothing"))
    handler.emit(finished)
    text = os.read(reader, 1000).decode("ascii")
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert json.loads(text)["logs"] == ["logs/two\nlines \u2028 \udcff.log"]
    os.close(reader)
    handler.emit(finished)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        handler.emit(finished)


def load_plugin() -> types.ModuleType:
    """Import the plugin as Snakemake does: by name, from the folder that the engine adds to PYTHONPATH."""
    pytest.importorskip("snakemake_interface_logger_plugins", reason="Snakemake is not installed")
    (found,) = pkgutil.iter_modules([str(engine.PLUGINS)])
    assert found.ispkg, "Snakemake loads only packages"
    assert found.name == "snakemake_logger_plugin_events"
    spec = found.module_finder.find_spec(found.name, None)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[found.name] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


# Failed stages.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (None, "it exited without output"),
        ("", "it exited without output"),
        ("epoch 1/5\nerror: too few images\n", "too few images ({log})"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'y'\n", "KeyError: 'y' ({log})"),
        ("epoch 1/5\nepoch 2/5\n", "it exited without an error message, after: epoch 2/5 ({log})"),
        ("error: ünï \udcff\n", "ünï \ufffd ({log})"),
    ],
)
def test_a_failed_stage_is_explained_by_the_last_line_of_its_log(tmp_path, words, message):
    log = tmp_path / "train.log"
    if words is not None:
        log.write_bytes(words.encode(errors="surrogateescape"))
    event = Event("error", Job(1, "train", "dropout", ""), "train.log")
    assert engine._failure(tmp_path, event) == message.format(log=log)


# A small program replaces Snakemake.


def replace_snakemake(monkeypatch, program: str) -> list[tuple[str, ...]]:
    """Make the engine start a Python program in which `emit` writes an event; return the flags of each start."""
    calls: list[tuple[str, ...]] = []
    head = "import os, signal, sys, time\ndef emit(text): os.write(int(sys.argv[1]), text.encode())\n"

    def command(work: Path, *flags: str, descriptor: int) -> list[str]:
        assert work.is_absolute(), "Snakemake starts in this folder"
        calls.append(flags)
        return [sys.executable, "-c", head + program, str(descriptor)]

    monkeypatch.setattr(engine, "command", command)
    return calls


def test_a_failure_of_snakemake_is_reported_with_its_last_three_lines(tmp_path, monkeypatch):
    message = (
        "print('one', 'two', '', 'three', file=sys.stderr, sep='\\n'); os.write(1, b'f\\xffur\\n\\n'); sys.exit(1)"
    )
    replace_snakemake(monkeypatch, f"print('zero', flush=True); {message}")
    with pytest.raises(ValueError, match=r"^Snakemake failed: two three f\ufffdur$"):
        engine.plan(tmp_path)
    with pytest.raises(ValueError, match=r"^Snakemake failed: two three f\ufffdur$"):
        list(engine.run(tmp_path, 1, lock=0))
    for program, message in (("print('only')", "only"), ("pass", "nothing")):
        replace_snakemake(monkeypatch, f"{program}; sys.exit(1)")
        with pytest.raises(ValueError, match=rf"^Snakemake failed: {message}$"):
            engine.plan(tmp_path)


def test_a_plan_omits_the_target_and_passes_flags_on(tmp_path, monkeypatch):
    lines = start_line(1, "train", variant="x") + start_line(0, "all") + start_line(2, "publish")
    calls = replace_snakemake(monkeypatch, f"emit({lines!r})")
    assert [job.name for job in engine.plan(tmp_path, "--forceall")] == ["train x", "publish"]
    assert calls == [("--cores", "1", "--dry-run", "--forceall")]


def test_failed_stages_are_reported_after_all_other_jobs(tmp_path, monkeypatch):
    (tmp_path / "x.log").write_text("error: too few images\n")
    lines = start_line(1, "train", variant="x") + start_line(2, "prepare", datum="y") + start_line(3, "publish")
    lines += line("error", 1, logs=["x.log"]) + line("error", 3, logs=["none.log"]) + line("finish", 2)
    replace_snakemake(monkeypatch, f"emit({lines!r}); print('words of Snakemake'); sys.exit(1)")
    seen = []
    message = rf"^train x: too few images \({tmp_path}/x.log\); publish: it exited without output$"
    with pytest.raises(ValueError, match=message):
        seen.extend((event.kind, event.job.rule) for event in engine.run(tmp_path, 1, lock=0))
    assert seen == [("start", "train"), ("start", "prepare"), ("start", "publish"), ("finish", "prepare")]
    lines = start_line(0, "all") + line("finish", 0)
    replace_snakemake(monkeypatch, f"emit({lines!r})")
    assert list(engine.run(tmp_path, 1, lock=0)) == [], "the target must not be reported"


def test_folder_environment_and_files_of_the_snakemake_process(tmp_path, monkeypatch, typed_input):
    """The program reports its folder, session, PYTHONPATH, standard input and lock file."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/more")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    facts = (
        "os.getcwd(), os.getsid(0) == os.getpid(), os.environ['PYTHONPATH'], sys.stdin.read(), os.fstat(LOCK).st_ino"
    )
    with engine.locked(Path("work")) as lock:
        facts = facts.replace("LOCK", str(lock))
        replace_snakemake(
            monkeypatch, f"assert os.environ['PYTHONUNBUFFERED']; print(*map(repr, ({facts})), sep='\\n')"
        )
        with engine._stopping(engine.start(Path("work"), lock=lock)) as running:
            assert running.process.wait() == 0
            assert list(running.events) == []
            running.messages.seek(0)
            folder, session, path, given, locked = map(ast.literal_eval, running.messages.read().decode().splitlines())
        assert locked == os.fstat(lock).st_ino
    assert (folder, session, given) == (str(tmp_path / "work"), True, "")
    assert path == os.pathsep.join([str(engine.ROOT), str(engine.PLUGINS), "/more"])
    monkeypatch.delenv("PYTHONPATH")
    replace_snakemake(monkeypatch, "print(os.environ['PYTHONPATH'])")
    with engine._stopping(engine.start(Path("work"))) as running:
        running.process.wait()
        running.messages.seek(0)
        assert running.messages.read().decode() == os.pathsep.join([str(engine.ROOT), f"{engine.PLUGINS}\n"])


def test_the_command_line_of_snakemake(tmp_path):
    words = engine.command(tmp_path, "--cores", "3", descriptor=7)
    assert words[:3] == [sys.executable, "-m", "snakemake"]
    assert words[-2:] == ["--cores", "3"]
    given = dict(itertools.pairwise(words))
    assert Path(given["--snakefile"]).name == "Snakefile"
    assert given["--directory"] == str(tmp_path)
    assert given["--configfile"] == str(tmp_path / "settings.json")
    assert (given["--logger"], given["--logger-events-descriptor"]) == ("events", "7")
    assert given["--scheduler"] == "greedy", "the default scheduler needs a solver"
    assert {"--nolock", "--nocolor", "--rerun-incomplete"} <= set(words)
    assert int(given["--max-checksum-file-size"]) >= 10**12, "large files must also be compared by content"
    assert not {"--profile", "--workflow-profile"} & set(words)
    (tmp_path / engine.SETTINGS).write_text(json.dumps({"profile": "/profiles/slurm"}))
    words = engine.command(tmp_path, "--jobs", "3", descriptor=7)
    given = dict(itertools.pairwise(words))
    assert given["--workflow-profile"] == "/profiles/slurm"
    assert "--profile" not in words, "it would replace the user's own profile, SNAKEMAKE_PROFILE"
    assert given["--snakefile"] == str(tmp_path / "Snakefile")
    assert given["--default-storage-prefix"] == str(tmp_path)


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_plans_and_failed_starts_close_their_files(tmp_path, monkeypatch):
    replace_snakemake(monkeypatch, "pass")
    before = open_files()
    engine.plan(tmp_path)
    assert open_files() == before
    monkeypatch.setattr(engine, "command", lambda *flags, descriptor: ["/nowhere/python"])
    with pytest.raises(FileNotFoundError, match="/nowhere/python"):
        engine.plan(tmp_path)
    assert open_files() == before


@pytest.fixture
def handler():
    """A new handler of SIGTERM; the previous one is restored after the test."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def test_a_run_passes_cores_and_lock_and_restores_the_sigterm_handler(tmp_path, monkeypatch, handler):
    with engine.locked(tmp_path) as lock:
        held = f"assert os.fstat({lock}).st_ino == {os.fstat(lock).st_ino}"
        calls = replace_snakemake(monkeypatch, f"{held}; emit({start_line(1, 'train')!r}); time.sleep(60)")
        events = engine.run(tmp_path, 3, lock)
        assert next(events).job.rule == "train"
        assert signal.getsignal(signal.SIGTERM) is not handler
        events.close()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert calls == [("--cores", "3", "--keep-going")]


def test_a_failed_start_restores_the_sigterm_handler(tmp_path, monkeypatch, handler):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^Snakemake is not installed: pip install '\.\[pipeline\]'$"):
        list(engine.run(tmp_path, 1, lock=0))
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.fixture
def typed_input():
    """Unread text on the standard input of the tests."""
    kept, (reader, writer) = os.dup(0), os.pipe()
    os.write(writer, b"words")
    os.dup2(reader, 0)
    for number in (reader, writer):
        os.close(number)
    yield
    os.dup2(kept, 0)
    os.close(kept)


def stop_once_ready(work: Path) -> subprocess.Popen[bytes]:
    """Start the program, wait for its event `ready`, and stop it."""
    running = engine.start(work)
    assert running.events.readline() == "ready\n"
    with engine._stopping(running):
        pass
    return running.process


def test_the_process_is_interrupted_first_and_may_exit_by_itself(tmp_path, monkeypatch):
    wait = "\ntry:\n    emit('ready\\n'); time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit(7)"
    replace_snakemake(monkeypatch, f"signal.signal(signal.SIGINT, signal.default_int_handler){wait}")
    assert stop_once_ready(tmp_path).returncode == 7


def test_a_process_that_ignores_the_interrupt_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", 0.3)
    replace_snakemake(monkeypatch, "signal.signal(signal.SIGINT, signal.SIG_IGN); emit('ready\\n'); time.sleep(60)")
    assert stop_once_ready(tmp_path).returncode == -signal.SIGKILL


def test_a_process_that_blocks_on_a_full_event_pipe_can_be_stopped(tmp_path, monkeypatch):
    """Closing the reading end of the pipe unblocks the process."""
    endless = "\ntry:\n    emit('ready\\n')\n    while True: emit('x' * 10000)\nexcept OSError:\n    sys.exit(8)"
    replace_snakemake(monkeypatch, f"signal.signal(signal.SIGINT, signal.SIG_IGN){endless}")
    assert stop_once_ready(tmp_path).returncode == 8


def test_jobs_that_outlive_snakemake_are_killed(tmp_path):
    reader, writer = os.pipe()  # at its end once the last process that writes to it has exited
    process = subprocess.Popen(["sh", "-c", "sleep 60 & exit 1"], stdout=writer, start_new_session=True)
    os.close(writer)
    process.wait()
    assert not select.select([reader], [], [], 0.2)[0], "the job has not outlived its parent"
    nothing = (tmp_path / "nothing").open("w+"), (tmp_path / "nothing").open("rb")
    with engine._stopping(engine.Snakemake(process, *nothing)):
        pass
    assert all(file.closed for file in nothing)
    assert select.select([reader], [], [], 10)[0], "the job is still running"
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_work_folder_is_locked_during_a_run(tmp_path):
    with engine.locked(tmp_path) as lock:
        assert os.fstat(lock).st_ino == (tmp_path / ".lock").stat().st_ino
        message = rf"^another run uses {tmp_path}: wait for it, or choose another"
        with pytest.raises(ValueError, match=message), engine.locked(tmp_path):
            pass
    with engine.locked(tmp_path):
        pass
