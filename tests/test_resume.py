"""Resuming: one process per folder, the newest matching run, and a resumable end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ch03_autoencoder_rbm.digits import feedforward
from common import cli
from common import run as runs
from common.config import RunOptions
from common.files import UNFINISHED, write_json
from common.run import Run
from common.run_folders import folder, lock
from common.run_folders.folder import NothingToResumeError, finished_runs, newest_run
from common.run_folders.lock import FolderLock
from conftest import ROOT
from test_run import MODULE, Config, lines, walk


@pytest.fixture
def config(options):
    return Config(run=options)


def again(config: Config, resume: bool | str | Path = True, **options) -> Config:
    resume = resume if isinstance(resume, bool) else str(resume)
    return replace(config, run=replace(config.run, resume=resume, **options))


def stop(config: Config, after: int = 1) -> Path:
    """Interrupt a run after some epochs; return its folder."""
    before = set(config.run.out.glob("*/*/*"))
    with pytest.raises(KeyboardInterrupt):
        walk(config, stop_after=after)
    (path,) = set(config.run.out.glob("*/*/*")) - before
    return path


# The lock.


@pytest.mark.parametrize("resume", [True, "auto", "folder"])
def test_a_locked_folder_is_rejected_with_its_holder(config, resume):
    with Run.open(MODULE, config) as run:
        second = again(config, run.folder if resume == "folder" else resume)
        before = sorted(run.folder.parent.iterdir())
        with pytest.raises(ValueError, match="is in use by") as error:
            Run.open(MODULE, second)
        assert sorted(run.folder.parent.iterdir()) == before, "a rejected run must not create a folder"
    message = str(error.value)
    holder = f"{run.folder} is in use by process {os.getpid()} on {socket.gethostname()} since 2"
    assert message.startswith(holder), message
    assert message.endswith(": wait until it ends, or stop it")


def test_a_resumed_run_holds_the_lock_too(config):
    stop(config)
    with Run.open(MODULE, again(config)) as run, pytest.raises(ValueError, match=f"{run.folder} is in use by process"):
        Run.open(MODULE, again(config))
    with Run.open(MODULE, again(config)) as later:
        assert later.folder == run.folder


def test_a_finished_run_removes_its_lock(config):
    stopped = stop(config)
    assert not (stopped / ".holder.json").exists()
    _, whole = walk(again(config))
    assert whole == stopped
    assert not [path for path in whole.iterdir() if path.name.startswith(".")]


def test_a_killed_holder_leaves_no_stale_lock(tmp_path):
    script = f"""
import time
from pathlib import Path
from common.run_folders.lock import FolderLock
lock = FolderLock(Path({str(tmp_path)!r}))
print("locked", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=f"is in use by process {holder.pid} on"):
            FolderLock(tmp_path)
        holder.kill()
    mine = FolderLock(tmp_path)
    assert json.loads((tmp_path / ".holder.json").read_text())["pid"] == os.getpid()
    mine.release(forget=False)


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_an_unnamed_holder_is_reported_as_another_process(tmp_path, text):
    mine = FolderLock(tmp_path)
    path = tmp_path / ".holder.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValueError, match="is in use by another process: wait"):
        FolderLock(tmp_path)
    mine.release(forget=False)


def test_a_folder_that_cannot_be_locked_is_named(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match=rf"cannot lock {tmp_path} \(No locks available\): choose a folder on another"):
        FolderLock(tmp_path)


def test_a_run_that_was_completed_meanwhile_is_not_resumed(config, monkeypatch):
    """Another process ends between the search and the lock."""
    path = stop(config)
    find = folder.find_resumable

    def find_and_complete(home, record):
        found = find(home, record)
        write_json(found / "summary.json", {})
        return found

    monkeypatch.setattr(folder, "find_resumable", find_and_complete)
    with pytest.raises(NothingToResumeError, match=f"the run {path} is complete; start without --resume"):
        Run.open(MODULE, again(config))
    assert not (path / ".lock").exists()
    FolderLock(path).release(forget=False)


# Choice of the run.


def test_the_newest_unfinished_run_that_matches_is_resumed(config):
    """Of two runs with seed 0 and a later one with seed 1, all unfinished, the second of seed 0 is resumed; complete
    runs are ignored.
    """
    one = replace(config, run=replace(config.run, seed=1))
    first, second, third = stop(config), stop(config), stop(one)
    assert walk(config)[1] not in (first, second)
    assert walk(again(config))[1] == second
    assert walk(again(config))[1] == first, "the only remaining run with seed 0"
    assert walk(again(one))[1] == third


def test_newest_means_started_last(config):
    first, second = stop(config), stop(config)
    os.utime(first / "config.json", (2e9, 2e9))
    assert walk(again(config))[1] == first
    assert walk(again(config))[1] == second


def test_nothing_to_resume(config):
    home = config.run.out / "ch99_test" / "program"
    with pytest.raises(NothingToResumeError, match=f"^nothing to resume: {home} has no runs; start without"):
        walk(again(config))
    _, whole = walk(config)
    with pytest.raises(NothingToResumeError, match=f"the newest run, {whole}, is complete; start without --resume$"):
        walk(again(config))


def test_resuming_with_other_settings_names_them(config):
    stop(config)
    newest = stop(replace(config, epochs=4))
    other = again(replace(config, epochs=5), seed=7)
    with pytest.raises(NothingToResumeError) as error:
        walk(other)
    reason = f"{newest} was started with other settings: --epochs was 4 and is now 5; --seed was 0"
    assert reason in str(error.value)
    assert "(1 older unfinished run(s) cannot be resumed either); start without --resume" in str(error.value)


def test_resuming_with_other_data_is_rejected(config, digits):
    with pytest.raises(KeyboardInterrupt), Run.open(MODULE, config, digits.card):
        raise KeyboardInterrupt
    with pytest.raises(NothingToResumeError, match="the data was"):
        Run.open(MODULE, again(config), replace(digits.card, sha256="0"))


@pytest.mark.parametrize("text", ["{}", "[]", '{"config": {}}', "no JSON", '{"config": {"run": 3}}', "[" * 100_000])
def test_a_damaged_config_is_named_and_does_not_block_other_runs(config, text):
    older, newest = stop(config), stop(config)
    (newest / "config.json").write_text(text)
    with pytest.raises(NothingToResumeError, match=rf"{newest / 'config.json'} is not the config.json of a run"):
        walk(again(config, newest))
    assert walk(again(config))[1] == older
    with pytest.raises(NothingToResumeError, match=rf"{newest / 'config.json'} is not the config.json of a run"):
        walk(again(config))


def test_a_named_run_is_resumed_in_any_folder(config, tmp_path, monkeypatch):
    first, second = stop(config), stop(config)
    moved = tmp_path / "elsewhere"
    first.rename(moved)
    assert walk(again(config, moved))[1] == moved
    assert not (second / "summary.json").exists()
    monkeypatch.chdir(second.parent)
    assert walk(again(config, second.name))[1] == Path(second.name)


def test_a_named_run_that_cannot_be_resumed_is_rejected(config, tmp_path):
    with pytest.raises(NothingToResumeError, match=f"{tmp_path} is not a run folder: it has no config.json; start"):
        walk(again(config, tmp_path))
    path = stop(config)
    with pytest.raises(NothingToResumeError, match=f"{path} was started with other settings"):
        walk(again(replace(config, epochs=4), path))
    with pytest.raises(NothingToResumeError, match=f"{path} is a run of {MODULE}; start without --resume"):
        Run.open("ch99_test.other", again(config, path))
    walk(again(config, path))
    with pytest.raises(NothingToResumeError, match=f"the run {path} is complete"):
        walk(again(config, path))


def test_auto_resumes_or_starts_a_run_and_reports_why(config, capsys):
    _, first = walk(again(config, "auto"))
    home = first.parent
    assert f"new run  nothing to resume: {home} has no runs\n" in capsys.readouterr().out
    second = stop(again(config, "auto"))
    output = capsys.readouterr().out
    assert f"new run  nothing to resume: the newest run, {first}, is complete\n" in output
    assert output.rstrip().endswith("--resume auto")
    assert walk(again(config, "auto"))[1] == second
    output = capsys.readouterr().out
    assert "new run" not in output
    assert f"resumed  {second} after epoch 1" in output
    path = stop(config)
    assert walk(again(replace(config, epochs=4), "auto"))[1] not in (first, second, path)
    assert f"new run  nothing to resume: {path} was started with other settings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "resume"),
    [
        ([], False),
        (["--resume"], True),
        (["--resume", "--seed", "0"], True),
        (["--resume", "auto"], "auto"),
        (["--resume=auto"], "auto"),
        (["--resume", "runs/a b/c", "--seed", "0"], "runs/a b/c"),
    ],
)
def test_the_command_line_resumes_in_three_ways(monkeypatch, words, resume):
    configs = []
    monkeypatch.setattr(feedforward, "train", configs.append)
    cli.main(feedforward, arguments=["feedforward", *words])
    assert configs[0].run.resume == resume
    assert type(configs[0].run.resume) is type(resume)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["feedforward", "--resume", "a", "b"], "--resume takes one folder, got a b"),
        (["feedforward", "--resume", ""], "--resume takes auto or a run folder, got an empty name"),
        (["--resume", "auto"], "--resume needs a program name"),
    ],
)
def test_user_errors_with_resume_are_one_line(fails, words, message):
    assert message in fails(cli.main, feedforward, arguments=words)


# Files of killed processes.


def test_files_that_a_killed_run_was_writing_are_removed(config):
    path = stop(config)
    (path / "more").mkdir()
    left = [path / f"{UNFINISHED}abc.pt", path / "more" / f"{UNFINISHED}x.png"]
    for file in [*left, path / ".hidden", path / "mine.png"]:
        file.write_text("half")
    walk(again(config))
    assert not any(file.exists() for file in left)
    assert (path / ".hidden").exists()
    assert (path / "mine.png").exists()


def test_temporary_files_of_a_killed_process_are_recognised_by_prefix(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from common.files import atomic_path
with atomic_path(Path({str(tmp_path)!r}) / "checkpoint.pt") as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(UNFINISHED)
    assert left.suffix == ".pt"


# SIGTERM.


def test_sigterm_ends_a_run_like_ctrl_c(config, monkeypatch, capsys):
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0)
    expected, _ = walk(config)
    log = Run.log

    def log_and_terminate(self, **splits):
        if self._epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        log(self, **splits)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", log_and_terminate)
        patch.setattr(feedforward, "train", lambda _: walk(config))
        with pytest.raises(SystemExit) as stop:
            cli.main(feedforward, arguments=["feedforward"])
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    output = capsys.readouterr()
    assert output.err == ""
    last = output.out.splitlines()[-1]
    assert last.startswith("stopped  the last checkpoint is kept; resume with: python -m ch99_test.train program")
    assert last.endswith(" --resume")
    weights, folder = walk(again(config))
    assert weights == expected
    assert [row["epoch"] for row in lines(folder)] == [1, 2, 3]


def test_a_second_sigterm_does_not_interrupt_the_shutdown(monkeypatch):
    ended = []

    def train(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            ended.append(True)

    monkeypatch.setattr(feedforward, "train", train)
    with pytest.raises(SystemExit) as stop:
        cli.main(feedforward, arguments=["feedforward"])
    assert (stop.value.code, ended) == (143, [True])


def test_a_lost_connection_after_sigterm_prints_no_traceback(monkeypatch):
    """Under torchrun another process may end first, and an operation that waits for it fails."""

    def train(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(feedforward, "train", train)
    with pytest.raises(SystemExit) as stop:
        cli.main(feedforward, arguments=["feedforward"])
    assert stop.value.code == 143

    def fail(_):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(feedforward, "train", fail)
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        cli.main(feedforward, arguments=["feedforward"])


def test_outside_the_main_thread_signal_handlers_are_unchanged(monkeypatch):
    configs = []
    monkeypatch.setattr(feedforward, "train", configs.append)
    thread = threading.Thread(target=cli.main, args=(feedforward,), kwargs={"arguments": ["feedforward"]})
    thread.start()
    thread.join()
    assert len(configs) == 1


@pytest.mark.parametrize(
    ("size", "local", "command"),
    [(2, 2, "torchrun --standalone --nproc-per-node 2 -m ch99"), (4, 2, "(on each node) torchrun -m ch99")],
)
def test_under_torchrun_the_resume_command_starts_all_processes(config, monkeypatch, capsys, size, local, command):
    monkeypatch.setattr(runs.distributed, "local_world_size", lambda: local)

    def interrupt():
        with Run.open(MODULE, config) as run:
            (run.folder / "checkpoint.pt").touch()
            monkeypatch.setattr(runs.distributed, "world_size", lambda: size)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert f"resume with: {command}_test.train program --device cpu" in capsys.readouterr().out


@pytest.mark.slow
def test_of_two_simultaneous_resumes_one_is_rejected(tmp_path):
    """The error of the rejected one names the other, which continues, logs each epoch once, and ends by SIGTERM."""
    words = ["ch03_autoencoder_rbm.train", "feedforward", "--data", "digits", "--epochs", "100000", "--threads", "1"]
    words = [sys.executable, "-m", *words, "--device", "cpu", "--out", str(tmp_path)]
    started = []

    def start(*more: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen([*words, *more], cwd=ROOT, text=True, stdout=pipe, stderr=pipe))
        return started[-1]

    def wait_for(name: str) -> Path:
        while not (found := list(tmp_path.glob(f"*/*/*/{name}"))):
            assert any(process.poll() is None for process in started)
            time.sleep(0.01)
        return found[0]

    try:
        first = start()
        folder = wait_for("checkpoint.pt").parent
        first.kill()
        first.communicate()
        before = len(lines(folder))
        pair = [start("--resume"), start("--resume")]
        while all(process.poll() is None for process in pair):
            time.sleep(0.01)
        loser, winner = sorted(pair, key=lambda process: process.poll() is None)
        output, error = loser.communicate()
        assert loser.returncode == 2, (output, error)
        assert winner.poll() is None
        assert error.startswith(f"error: {folder} is in use by process {winner.pid} on {socket.gethostname()} since ")
        assert error.count("\n") == 1
        while len(lines(folder)) <= before:
            time.sleep(0.01)
        winner.send_signal(signal.SIGTERM)
        output, error = winner.communicate()
        assert (winner.returncode, error) == (143, "")
        assert f"resumed  {folder} after epoch " in output
        assert output.splitlines()[-1].startswith("stopped  the last checkpoint is kept; resume with: python -m ch03")
        epochs = [row["epoch"] for row in lines(folder)]
        assert epochs == list(range(1, len(epochs) + 1))
    finally:
        for process in started:
            process.kill()
            process.communicate()


# Complete runs.


def test_the_newest_complete_run_with_weights_is_found(tmp_path):
    home = tmp_path / "ch03_autoencoder_rbm" / "feedforward"
    with pytest.raises(FileNotFoundError, match=f"{home} has no finished run: train one with python -m ch03"):
        newest_run(tmp_path, feedforward)
    for number, (name, files) in enumerate(
        {
            "a": ["summary.json", "model.safetensors"],
            "b": ["summary.json", "model.safetensors"],
            "c": ["summary.json"],
            "d": ["model.safetensors"],
        }.items()
    ):
        (home / name).mkdir(parents=True)
        for file in files:
            (home / name / file).touch()
            os.utime(home / name / file, (1e9 + number, 1e9 + number))
    assert finished_runs(tmp_path, feedforward) == [home / "b", home / "a"]
    assert newest_run(tmp_path, feedforward) == home / "b"


def test_a_folder_is_named_by_time_seed_and_a_counter_if_it_exists(tmp_path):
    options = RunOptions(device="cpu", seed=5, out=tmp_path)
    names = set()
    for _ in range(3):
        with Run.open(MODULE, Config(run=options)) as run:
            names.add(run.folder.name)
            stem, _, seed = run.folder.name.partition("-s")
            assert len(stem) == len("20261129-170000")
            assert seed.partition("-")[0] == "5"
    assert len(names) == 3
