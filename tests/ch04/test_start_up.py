"""The program start_up: the commands that it times, and their comparison with `import torch`."""

import sys

import pytest

from ch04_cuda import start_up
from common import cli
from test_house import CHAPTERS, programs


def test_every_chapter_is_started_with_its_first_program():
    assert [command.partition(".")[0] for command in start_up.PROGRAMS.values()] == CHAPTERS
    assert [int(chapter[2:4]) for chapter in CHAPTERS] == list(start_up.PROGRAMS)
    for chapter, command in zip(CHAPTERS, start_up.PROGRAMS.values(), strict=True):
        assert command.partition(" ")[2] in [cli._name(module) for module in programs(chapter)]


def test_commands_and_differences(options, monkeypatch):
    seconds = {"torch": iter([9.0, 1.0, 1.2]), "help": iter([9.0, 1.5, 1.8])}
    seen = []

    def timed(words, folder):
        assert words[0] == sys.executable and (folder / "pyproject.toml").exists()
        seen.append(words[1:])
        return next(seconds["help" if "--help" in words else "torch"])

    monkeypatch.setattr(start_up, "command_seconds", timed)
    metrics = start_up.train(start_up.Config(chapters=(3, 3), rounds=2, run=options))
    assert seen == [["-c", "import torch"], ["-m", "ch03_autoencoder_rbm.train", "feedforward", "--help"]] * 3
    assert metrics["torch_seconds"] == pytest.approx(1.1)
    assert metrics["ch03_seconds"] == pytest.approx(1.65)
    assert metrics["ch03_torch_extra_seconds"] == pytest.approx(0.55)
    assert metrics["ch03_torch_lowest_ratio"] == pytest.approx(1 / 1.5)


def test_a_program_is_started(options, warm):
    metrics = start_up.train(start_up.Config(chapters=(1,), rounds=1, run=options))
    assert metrics["ch01_seconds"] > 0 and metrics["torch_seconds"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chapters": ()}, "--chapters needs at least one number"),
        ({"chapters": (11,)}, r"--chapters must be between 1 and 10.*11"),
        ({"rounds": 0}, "--rounds must be"),
    ],
)
def test_invalid_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        start_up.Config(**settings)


def test_a_command_that_fails_ends_the_comparison(options, monkeypatch, fails, warm):
    monkeypatch.setitem(start_up.PROGRAMS, 1, "ch01_graphs.train no_such_program")
    error = fails(cli.main, start_up, arguments=["start_up", "--chapters", "1", "--out", str(options.out)])
    assert "ch01_graphs.train no_such_program --help failed" in error
    assert not list(options.out.rglob("summary.json"))
