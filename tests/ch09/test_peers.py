"""Comparison of the pipeline with plain Snakemake: the change, the due jobs and both commands."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ch09_pipeline import engine, peers, pipeline
from common import cli
from common.data.images.binary import CIFAR_RECORD

pytest.importorskip("snakemake", reason="Snakemake is not installed: pip install '.[pipeline]'")


def test_one_image_is_removed(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(bytes([1]) * CIFAR_RECORD + bytes([2]) * CIFAR_RECORD)
    peers.remove_image(path)
    assert path.read_bytes() == bytes([1]) * CIFAR_RECORD


def test_plain_snakemake_gets_the_same_snakefile_settings_and_folder(tmp_path):
    command = peers.plain_command(tmp_path)
    assert command[:3] == [sys.executable, "-m", "snakemake"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert options["--snakefile"] == str(engine.SNAKEFILE)
    assert options["--configfile"] == str(tmp_path / engine.SETTINGS)
    assert options["--directory"] == str(tmp_path)


@pytest.fixture
def stubs(monkeypatch):
    """Replace both commands and the list of due jobs; return the calls, with the size of the test batch."""
    calls, due = [], iter([[], [], [], [], [], []])

    def seconds(command, *, folder, environment: Any = None):
        ours = "ch09_pipeline.train" in command
        if ours and not calls:  # the first run
            out = next(folder for folder in map(str, command) if folder.endswith("runs"))
            (data,) = (word for word in command if word.endswith("shapes"))
            calls.append((data, out))
            return 30.0
        size = (Path(calls[0][0]) / peers.BATCH).stat().st_size
        assert environment["PYTHONPATH"].startswith(str(peers.ROOT))
        calls.append(("ours" if ours else "snakemake", size))
        return 3.0 if ours else 2.0

    def embed(data):
        data.mkdir()
        for name in ("batch-01.bin", peers.BATCH):
            (data / name).write_bytes(bytes(10 * CIFAR_RECORD))

    monkeypatch.setattr(peers.repository, "embed_batches", embed)
    monkeypatch.setattr(peers, "command_seconds", seconds)
    monkeypatch.setattr(engine, "plan", lambda work: next(due))
    return calls, due


@pytest.mark.parametrize("change", ["none", "test-batch"])
def test_commands_are_interleaved_after_the_change(options, stubs, change):
    metrics = peers.train(peers.Config(change=change, rounds=2, run=options))
    (_, out), *calls = stubs[0]
    assert not str(out).startswith(str(options.out)), "the measured runs are not kept"
    assert [name for name, _ in calls] == ["snakemake", "ours"] * 3
    removed = [(calls[0][1] - size) // CIFAR_RECORD for _, size in calls]
    assert removed == ([0] * 6 if change == "none" else list(range(6)))
    assert (metrics["first_run_seconds"], metrics["ours_seconds"], metrics["snakemake_seconds"]) == (30, 3, 2)
    assert metrics["ours_snakemake_extra_seconds"] == 1
    assert metrics["ours_snakemake_ratio"] == pytest.approx(2 / 3)
    assert metrics["ours_jobs"] == metrics["snakemake_jobs"] == 0


def test_different_work_is_refused(options, stubs, monkeypatch):
    due = iter([[], [], [], ["job"]])
    monkeypatch.setattr(engine, "plan", lambda work: next(due))
    with pytest.raises(ValueError, match=r"jobs due before ours differs between rounds: \[0, 1\]"):
        peers.train(peers.Config(rounds=1, run=options))
    assert not list(options.out.rglob("summary.json"))


def test_without_snakemake_the_command_that_installs_it_is_named(options, monkeypatch, fails):
    monkeypatch.setitem(sys.modules, "snakemake", None)
    error = fails(cli.main, pipeline, extra=[peers], arguments=["peers", "--out", str(options.out)])
    assert error == "error: peers needs Snakemake: pip install '.[pipeline]'\n"


@pytest.mark.parametrize("name", ["epochs", "rounds"])
def test_invalid_settings(name):
    settings: dict[str, int] = {name: 0}
    with pytest.raises(ValueError, match=f"--{name} must be"):
        peers.Config(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_both_run_the_jobs_that_are_due(options, warm):
    metrics = peers.train(peers.Config(change="test-batch", rounds=1, run=replace(options, limit=100)))
    assert metrics["ours_jobs"] == metrics["snakemake_jobs"] == 6
    assert metrics["ours_seconds"] > 0 and metrics["snakemake_seconds"] > 0
