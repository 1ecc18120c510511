"""Progress bars: time left, bars only for long tasks and only on a terminal, one at a time."""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import threading
from functools import partial

import pytest

from common import progress
from common.progress import EpochBar, download_bar, say, time_left, track


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 0, 10), ""),
        ((10, 1, 2), "0:10 left"),
        ((30, 1, 3), "1:00 left"),
        ((3_600, 1, 3), "2:00:00 left"),
        ((0.1, 1, 2), "0:01 left"),
        ((5, 10, 10), "0:00 left"),
        ((5, 11, 10), "0:00 left"),
        ((4, 0.5, 1.5), "0:08 left"),
    ],
)
def test_time_left(arguments, text):
    assert time_left(*arguments) == text


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances, in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


@pytest.fixture
def terminal(monkeypatch):
    """Let consoles write to a terminal of 100 columns; return a function that returns what was written to it."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    parts: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(reader, 65_536)
            except OSError:  # the other side is closed
                return
            parts.append(part)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = os.fdopen(writer, "w", encoding="utf-8")
    monkeypatch.setattr(progress, "Console", partial(progress.Console, file=file))

    def written() -> str:
        if not file.closed:
            file.close()
            thread.join(5)
            os.close(reader)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(parts).decode())

    yield written
    written()
    assert progress._bars == [], "a bar was left"


def test_a_long_task_shows_a_bar_with_the_time_left(terminal, clock):
    seen = []
    for item in track(["a", "b", "c", "d"], "models"):
        seen.append(item)
        clock(1.5)
    output = terminal()
    assert seen == ["a", "b", "c", "d"]
    assert "1/4" not in output, "the first 2 seconds show no bar"
    assert re.search(r"models .* 2/4 +0:03 left", output)
    assert re.search(r"models .* 3/4 +0:02 left", output)


def test_a_short_task_shows_nothing(terminal, clock):
    for _ in track(range(19), "models"):
        clock(0.1)
    assert terminal() == ""


def test_without_a_terminal_there_is_no_bar(capsys, clock):
    assert list(track(iter("ab"), "models")) == ["a", "b"]
    for _ in track(range(3), "models"):
        clock(5)
    with download_bar("file", 10) as count:
        clock(5)
        count(5)
    assert capsys.readouterr().out == ""
    assert progress._bars == []


def test_a_line_is_printed_above_the_bar(terminal, clock):
    for number in track(range(3), "models"):
        clock(3)
        assert (number > 0) == (progress._bars != [])
        assert not number or progress.console() is progress._bars[-1].console
        say("result", f"of model {number}")
    output = terminal()
    assert re.search(r"models .* 1/3 +0:06 left[\s]*result   of model 1\r?\n", output), output


def test_an_inner_bar_replaces_the_outer_one(terminal, clock):
    for number in track(range(3), "models"):
        clock(3)
        bar = EpochBar(2, 10)
        assert progress._bars[-1] is bar._progress
        assert [each.live.is_started for each in progress._bars] == [False] * (number > 0) + [True]
        bar.start_epoch(1)
        bar.update(5, 0.1, "9 images/s")
        bar.stop()
        assert len(progress._bars) == (number > 0)
    assert re.search(r"2/3 +0:0[3-9] left", terminal())


def test_an_interrupted_task_removes_its_bar(terminal, clock):
    def interrupted():
        for number in track(range(9), "models"):
            clock(3)
            if number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert progress._bars == []


def test_a_download_shows_bytes_and_time_left(terminal, clock):
    with download_bar("download ratings.zip", 4_000_000) as count:
        for _ in range(4):
            clock(1.5)
            count(1_000_000)
    output = terminal()
    assert re.search(r"download ratings\.zip .* 2\.0/4\.0 MB .*0:03 left", output)
    assert "1.0/4.0 MB" not in output


def test_a_download_of_unknown_size_has_no_time_left(terminal, clock):
    with download_bar("file", None) as count:
        clock(3)
        count(1_000_000)
    output = terminal()
    assert "file" in output
    assert "left" not in output


@pytest.fixture
def states(monkeypatch):
    """The text beside the bar of every update."""
    found = []
    update = progress.Progress.update
    monkeypatch.setattr(
        progress.Progress, "update", lambda self, *a, **k: (found.append(k.get("state")), update(self, *a, **k))
    )
    return found


def test_the_bar_of_a_training_shows_the_time_left_of_all_epochs(clock, states):
    bar = EpochBar(3, 10)
    bar.start_epoch(1)
    clock(5)
    bar.update(5, 0.1, "9 images/s")
    clock(15)
    bar.start_epoch(2)
    bar.update(0, 0.1, "9 images/s")
    assert states == ["9 images/s  loss 0.1  0:25 left", "9 images/s  loss 0.1  0:40 left"]


def test_epochs_before_a_resume_do_not_count(clock, states):
    bar = EpochBar(5, 10)
    bar.start_epoch(4)
    clock(10)
    bar.update(10, 0.1, "9 images/s")
    assert states == ["9 images/s  loss 0.1  0:10 left"]


def test_a_time_budget_is_the_time_left(clock, states):
    bar = EpochBar(None, 10, budget=180)
    bar.start_epoch(2)
    bar.update(5, 0.1, "9 images/s", 100.5)
    bar = EpochBar(None, 10)
    bar.start_epoch(1)
    bar.update(5, 0.1, "9 images/s", 100.5)
    assert states == ["9 images/s  loss 0.1  1:20 left", "9 images/s  loss 0.1  "]


def test_a_thread_shows_no_bar(terminal, clock):
    def work():
        for _ in track(range(3), "models"):
            clock(5)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert terminal() == ""


def test_stdout_that_is_no_file_is_fine(monkeypatch, clock):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    for _ in track(range(3), "models"):
        clock(5)
    assert output.getvalue() == ""
