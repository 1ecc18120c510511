"""The command line: programs by name, flags with help, one-line errors."""

import json
import signal

import pytest
import torch

from ch03_autoencoder_rbm.boltzmann import rbm_throughput
from ch03_autoencoder_rbm.digits import autoencoder, feedforward
from common import cli


@pytest.fixture
def door(monkeypatch):
    """A command line whose programs only record their calls."""
    calls = []

    def open_door(*words):
        calls.clear()
        cli.main(feedforward, autoencoder, extra=[rbm_throughput], arguments=words)
        return calls

    for module in (feedforward, autoencoder, rbm_throughput):
        monkeypatch.setattr(module, "train", lambda config, module=module: calls.append((module, config)))
    return open_door


def test_without_a_name_the_core_programs_run_with_the_shared_flags(door):
    calls = door("--seed", "3", "--limit", "50")
    assert [module for module, _ in calls] == [feedforward, autoencoder]
    assert all(config.run.seed == 3 and config.run.limit == 50 for _, config in calls)
    assert all(config.run.threads == 1 for _, config in calls), "a program's own default was lost"
    assert all(config.run.threads == 0 for _, config in door("--threads", "0")), "a given flag was lost"


def test_a_named_program_runs_with_its_flags(door):
    ((module, config),) = door("rbm_throughput", "--batch-size", "64", "--seed", "2")
    assert module is rbm_throughput
    assert (config.batch_size, config.run.seed) == (64, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["feedforwrd"], "did you mean feedforward?"),
        (["zzz"], "choose from feedforward, autoencoder, rbm_throughput"),
        (["feedforward", "--bach-size", "3"], "did you mean --batch-size?"),
        (["feedforward", "more"], "Unrecognized options: more; try"),
        (["feedforward", "--batch-size", "0"], "--batch-size must be a number above 0, got 0"),
        (["feedforward", "--batch-size", "many"], "--batch-size"),
        (["feedforward", "--learning-rate", "nan"], "--learning-rate must be a number above 0, got nan"),
        (["feedforward", "--epochs", "-1"], "--epochs must be a number above 0, got -1"),
        (["feedforward", "--shift", "28"], "--shift must be between 0 and 27, got 28"),
        (["feedforward", "--weight-decay", "-1"], "--weight-decay must be at least 0"),
        (["feedforward", "--data", "cifar"], "invalid choice 'cifar'"),
        (["feedforward", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["feedforward", "--seed", "-1"], "--seed must be between 0 and 2^63 - 1, got -1"),
        (["autoencoder", "--noise", "-0.1"], "--noise must not be negative, got -0.1"),
        (["rbm_throughput", "--benchmark"], "Unrecognized options: --benchmark"),
        (["--epochs", "3"], "Unrecognized options: --epochs"),
        (["feedforward", "--epochs", "x"], "--epochs"),
        (["--seed", "1", "feedforward"], "put the program first: python -m ch03_autoencoder_rbm.train feedforward"),
        (["feedforward", "--threads", "100000"], "--threads must be between 0 and"),
        (["--resume"], "--resume needs a program name"),
    ],
)
def test_a_mistake_is_one_line(door, fails, words, message):
    assert message in fails(door, *words)


def test_a_chapter_without_training_steps_has_none_to_time(fails):
    assert "Unrecognized options: --benchmark" in fails(cli.main, rbm_throughput, arguments=["--benchmark"])


@pytest.mark.parametrize("device", ["cuda:7", "mps:3", "gpu", ""])
def test_absent_device_error_lists_available_devices(fails, tmp_path, device):
    words = ["feedforward", "--data", "digits", "--device", device, "--out", str(tmp_path)]
    error = fails(cli.main, feedforward, arguments=words)
    assert "there is no such device here; present: cpu" in error


def test_out_that_cannot_be_written_names_folder_and_flag(fails, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["feedforward", "--data", "digits", "--out", str(tmp_path / "file")]
    error = fails(cli.main, feedforward, arguments=words)
    assert str(tmp_path / "file") in error
    assert "--out" in error


def test_a_missing_data_set_error_names_the_embedded_set(fails, tmp_path):
    words = ["feedforward", "--data", "mnist", "--out", str(tmp_path)]
    error = fails(cli.main, feedforward, arguments=words)
    assert str(tmp_path / "data/MNIST/raw") in error
    assert "--data digits" in error


def test_chapter_help_lists_its_programs(capsys):
    with pytest.raises(SystemExit):
        cli.main(feedforward, autoencoder, extra=[rbm_throughput], arguments=["--help"])
    text = capsys.readouterr().out
    assert "with no name: feedforward, autoencoder" in text
    assert rbm_throughput.__doc__ and rbm_throughput.__doc__.splitlines()[0][:40] in text


@pytest.mark.slow
@pytest.mark.parametrize(("program", "data"), [("feedforward", "digits"), ("recommender", "planted")])
def test_offline_and_without_data_a_program_uses_the_embedded_set(command, tmp_path, program, data):
    words = ("ch03_autoencoder_rbm.train", program, "--epochs", "1", "--limit", "100", "--out", str(tmp_path))
    done = command(*words, DATA_DIR=str(tmp_path / "no"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"data     {data}: 100 train, 100 valid, 100 test"), "the first line says which data"
    assert "embedded" in done.stdout.splitlines()[0]
    for name in ("config.json", "summary.json"):
        (path,) = tmp_path.glob(f"*/*/*/{name}")
        assert json.loads(path.read_text())["data"]["name"] == data
        assert json.loads(path.read_text())["data"]["embedded"] is True
    assert not (tmp_path / "no").exists(), "an empty DATA_DIR was created"


def test_help_shows_no_none(capsys):
    with pytest.raises(SystemExit):
        cli.main(feedforward, arguments=["feedforward", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--limit INT Maximum number of samples" in text.replace("│ ", "")
    assert "None" not in text


def test_a_wrong_value_of_an_optional_flag_is_named(fails):
    said = fails(cli.main, feedforward, arguments=["feedforward", "--limit", "many"])
    assert "--limit: expected INT, got many" in said


def test_interrupt_prints_no_traceback(monkeypatch):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(feedforward, "train", interrupted)
    with pytest.raises(SystemExit) as stop:
        cli.main(feedforward, arguments=["feedforward"])
    assert stop.value.code == 128 + signal.SIGINT


def test_programming_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(feedforward, "train", lambda config: [][1])
    with pytest.raises(IndexError):
        cli.main(feedforward, arguments=["feedforward"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "error: out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), "error: out of memory: lower --batch-size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes"),
            "error: out of memory: lower --batch-size",
        ),
    ],
)
def test_out_of_memory_is_one_line(monkeypatch, fails, error, message):
    def train(config):
        raise error

    monkeypatch.setattr(feedforward, "train", train)
    assert fails(cli.main, feedforward, arguments=["feedforward"]).startswith(message)


def test_an_unknown_error_box_becomes_its_text():
    assert cli._one_line("something else\n") == "something else"
