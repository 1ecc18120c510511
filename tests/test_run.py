"""The run folder: atomic files, bit-identical resume after any end, and checks of the loss."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ch03_autoencoder_rbm.digits import autoencoder, feedforward
from common import run as runs
from common.config import RunOptions
from common.files import atomic_path, write_json
from common.run import Run, load_weights
from common.run_folders.events import tag
from conftest import ROOT

MODULE = "ch99_test.program"


@dataclass(frozen=True)
class Config:
    """Config of an artificial program."""

    epochs: int = 3
    run: RunOptions = field(default_factory=RunOptions)


@pytest.fixture
def config(options):
    return Config(run=options)


def walk(config: Config, *, stop_after: int | None = None) -> tuple[list[float], Path]:
    """Train a number with noise from every generator; optionally raise an exception in the middle of an epoch."""
    with Run.open(MODULE, config) as run:
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.Adam(model.parameters())
        for epoch in run.epochs(config.epochs, 2, model=model, optimizer=optimizer):
            for _ in range(2):
                if stop_after is not None and epoch > stop_after:
                    raise KeyboardInterrupt
                noise = torch.randn(4, 1, generator=run.generator) + torch.rand(()) + float(np.random.random())
                loss = model(noise).square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                run.step(loss, samples=4)
            run.log(valid={"loss": loss.item()})
        run.save(model)
        run.finish(test={"loss": loss.item()})
    return [p.item() for p in model.parameters()], run.folder


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_its_files(config, capsys):
    _, folder = walk(config)
    assert folder.parent == config.run.out / "ch99_test" / "program"
    assert folder.name.endswith("-s0")
    names = {"checkpoint.pt", "config.json", "metrics.jsonl", "model.safetensors", "summary.json"}
    assert {path.name for path in folder.iterdir()} == names
    summary = json.loads((folder / "summary.json").read_text())
    keys = ["chapter", "program", "config", "data", "metrics", "seconds", "steps", "device", "versions"]
    assert list(summary) == keys
    assert summary["data"] is None
    assert {"test_loss", "train_seconds", "samples_per_second"} == set(summary["metrics"])
    assert summary["device"].startswith("cpu: ")
    assert summary["device"].endswith("1 thread, fp32")
    assert [line["epoch"] for line in lines(folder)] == [1, 2, 3]
    assert {"train_loss", "valid_loss", "samples_per_second", "seconds"} < set(lines(folder)[0])
    shown = capsys.readouterr().out
    assert "epoch 3/3  2/2" in shown
    assert str(folder) in shown


def test_the_seed_determines_the_run(config):
    first, second = walk(config)[0], walk(config)[0]
    assert first == second
    assert walk(replace(config, run=replace(config.run, seed=1)))[0] != first


def test_two_runs_in_the_same_second_get_two_folders(config):
    assert walk(config)[1] != walk(config)[1]


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(config, stop_after, capsys, monkeypatch):
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0)
    expected, whole = walk(config)
    with pytest.raises(KeyboardInterrupt):
        walk(config, stop_after=stop_after)
    output = capsys.readouterr().out
    if stop_after:
        assert "resume with: python -m ch99_test.train program" in output
        assert output.rstrip().endswith("--resume")
    else:
        assert output.rstrip().endswith("nothing was saved yet")
    assert "Traceback" not in output
    resumed = replace(config, run=replace(config.run, resume=True))
    weights, folder = walk(resumed)
    assert weights == expected
    for now, then in zip(lines(folder), lines(whole), strict=True):
        assert now["train_loss"] == then["train_loss"]
    assert (f"resumed  {folder} after epoch {stop_after}" in capsys.readouterr().out) == (stop_after > 0)


def test_epochs_after_the_last_checkpoint_are_repeated(config):
    expected, _ = walk(config)
    with pytest.raises(KeyboardInterrupt):
        walk(config, stop_after=2)
    (folder,) = (p.parent for p in config.run.out.rglob("checkpoint.pt") if not (p.parent / "summary.json").exists())
    assert len(lines(folder)) == 2, "epoch 2 was logged"
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["progress"]["epoch"] == 1, "and not yet saved"
    weights, _ = walk(replace(config, run=replace(config.run, resume=True)))
    assert [line["epoch"] for line in lines(folder)] == [1, 2, 3]
    assert weights == expected


def test_metrics_are_restored_from_the_checkpoint(config):
    with pytest.raises(KeyboardInterrupt):
        walk(config, stop_after=1)
    (path,) = config.run.out.rglob("metrics.jsonl")
    path.unlink()
    walk(replace(config, run=replace(config.run, resume=True)))
    assert [line["epoch"] for line in lines(path.parent)] == [1, 2, 3]


def test_damaged_checkpoint_is_named(config):
    with pytest.raises(KeyboardInterrupt):
        walk(config, stop_after=1)
    (path,) = config.run.out.rglob("checkpoint.pt")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"the checkpoint {path} is damaged, or holds more than") as error:
        walk(replace(config, run=replace(config.run, resume=True)))
    assert "remove it to begin this run again, or start without --resume" in str(error.value)
    path.unlink()
    walk(replace(config, run=replace(config.run, resume=True)))
    assert [line["epoch"] for line in lines(path.parent)] == [1, 2, 3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(config, bad):
    def diverge():
        with Run.open(MODULE, config) as run:
            for epoch in run.epochs(3, 10):
                for step in range(1, 11):
                    run.step(torch.tensor(bad if (epoch, step) == (2, 7) else 1.0), samples=1)
                run.log()

    with pytest.raises(FloatingPointError) as error:
        diverge()
    assert "at epoch 2, step 7 of 10" in str(error.value)
    assert "--learning-rate" in str(error.value)


def test_divergence_in_the_last_step_is_detected(config):
    with Run.open(MODULE, config) as run:
        next(run.epochs(1, 1))
        run.step(torch.tensor(1.0), samples=1)
        with pytest.raises(FloatingPointError, match="valid_loss is nan after epoch 1"):
            run.log(valid={"loss": float("nan")})
    assert not (run.folder / "metrics.jsonl").exists()


def test_unwritable_files_raise_os_error(config, command, tmp_path):
    words = "ch03_autoencoder_rbm.train feedforward --data digits --epochs 1 --out"
    script = f"ulimit -f 300; exec {sys.executable} -m {words} {tmp_path}"  # files of at most 300 KiB
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (folder,) = tmp_path.glob("*/*/*")
    assert done.stderr.startswith(
        f"error: no space to write {folder / 'checkpoint.pt'} (File too large): free some space"
    )
    assert done.stderr.count("\n") == 1


def test_divergence_is_one_line(command, tmp_path, warm):
    words = ["ch03_autoencoder_rbm.train", "feedforward", "--data", "digits", "--out", str(tmp_path)]
    done = command(*words, "--learning-rate", "1e30", "--precision", "fp32")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the loss is ")
    assert done.stderr.count("\n") == 1


def test_training_loss_is_the_mean_and_throughput_excludes_evaluation(config):
    with Run.open(MODULE, config) as run:
        for _ in run.epochs(1, 4):
            for value in (1.0, 2.0, 3.0, 6.0):
                run.step(torch.tensor(value), samples=5)
            time.sleep(0.3)  # an evaluation
            run.log()
        metrics = run.finish()
    assert run.history[0]["train_loss"] == 3.0
    assert metrics["train_seconds"] < 0.2
    assert metrics["samples_per_second"] == pytest.approx(20 / metrics["train_seconds"])


def test_an_uncounted_step_is_detected(config):
    with Run.open(MODULE, config) as run:
        next(run.epochs(1, 2))
        run.step(torch.tensor(1.0), samples=1)
        with pytest.raises(AssertionError, match="1 of 2 steps"):
            run.log()


def test_a_run_without_a_number_of_epochs_ends_after_end(config, capsys):
    """The epoch consists of the steps counted so far, it is saved, and it is the last one."""
    with Run.open(MODULE, config) as run:
        model = torch.nn.Linear(1, 1)
        elapsed = []
        for epoch in run.epochs(None, 3, model=model):
            for step in range(3):
                run.step(torch.tensor(float(10 * epoch + step)), samples=4)
                elapsed.append(run.elapsed())
                if (epoch, step) == (3, 1):
                    run.end()
                    break
            run.log()
        metrics = run.finish()
    rows = lines(run.folder)
    assert [row["train_loss"] for row in rows] == [11, 21, 30.5]
    assert torch.load(run.folder / "checkpoint.pt", weights_only=True)["progress"]["epoch"] == 3
    assert metrics["samples_per_second"] * metrics["train_seconds"] == pytest.approx(4 * 8)
    assert elapsed[-1] == pytest.approx(metrics["train_seconds"], abs=0.5)
    shown = capsys.readouterr().out
    assert "epoch 3  " in shown
    assert "epoch 3/" not in shown


def test_evaluation_is_not_training_time(config):
    with Run.open(MODULE, config) as run:
        for epoch in run.epochs(None, 1):
            if epoch == 2:
                assert run.elapsed() < 0.2
                run.step(torch.tensor(1.0), samples=1)
                run.end()
            else:
                run.step(torch.tensor(1.0), samples=1)
                time.sleep(0.3)
            run.log()


def test_threads_are_restored(config):
    walk(replace(config, run=replace(config.run, threads=2)))
    assert torch.get_num_threads() == 1


def test_files_are_written_atomically(tmp_path):
    path = tmp_path / "a" / "file.json"
    write_json(path, {"x": 1})
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text("half" + None)  # pyright: ignore[reportOperatorIssue]  # fails after the file was made
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_weights_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has this run finished"):
        load_weights(torch.nn.Linear(1, 1), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="does not fit Linear"):
        load_weights(torch.nn.Linear(1, 1), tmp_path)


def small_config(module, out: Path):
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=out)
    return module.Config(data="digits", epochs=10, run=options)


@pytest.mark.slow
@pytest.mark.parametrize("module", [feedforward, autoencoder])
def test_a_run_killed_within_an_epoch_resumes_to_the_same_weights(module, command, tmp_path, digits):
    program = module.__name__.rpartition(".")[2]
    module.train(small_config(module, tmp_path / "whole"), digits)
    # Slow steps, so that the kill is within an epoch, and frequent checkpoints, so that one exists.
    script = f"""
import time
from pathlib import Path
from common import run
from {module.__name__} import Config, train
from common import run as runs
from common.config import RunOptions
from common.run_folders.events import tag
run.CHECKPOINT_SECONDS = 0
step = run.Run.step
def slow(self, *arguments, **count):
    time.sleep(0.01)
    step(self, *arguments, **count)
run.Run.step = slow
options = RunOptions(device="cpu", precision="fp32", threads=1, out=Path({str(tmp_path / "killed")!r}))
train(Config(data="digits", epochs=10, run=options))
"""
    victim = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    for line in victim.stdout:
        if line.startswith("epoch  6/10"):
            time.sleep(0.025)  # somewhere within epoch 7
            os.kill(victim.pid, signal.SIGKILL)
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    (folder,) = (tmp_path / "killed").glob(f"*/{program}/*")
    assert not (folder / "summary.json").exists()
    assert not (folder / "model.safetensors").exists()
    config = small_config(module, tmp_path / "killed")
    module.train(replace(config, run=replace(config.run, resume=True)))
    (whole,) = (tmp_path / "whole").glob(f"*/{program}/*")
    then, now = load_file(whole / "model.safetensors"), load_file(folder / "model.safetensors")
    assert then.keys() == now.keys()
    assert all(torch.equal(then[name], now[name]) for name in then)
    pictures = {path.name: path.read_bytes() for path in whole.glob("*.png")}
    assert pictures == {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert pictures


@pytest.mark.slow
def test_ctrl_c_prints_the_resume_command(tmp_path):
    words = [
        "ch03_autoencoder_rbm.train",
        "feedforward",
        "--data",
        "digits",
        "--epochs",
        "5000",
        "--out",
        str(tmp_path),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if line.startswith("epoch "):
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == ""
    assert "--epochs 5000 --out " in rest
    assert rest.rstrip().endswith("--resume")


# TensorBoard.


@pytest.fixture
def with_events(config):
    pytest.importorskip("tensorboard")
    return replace(config, run=replace(config.run, tensorboard=True))


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the event files of a run as TensorBoard does."""
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_event_files_hold_the_metrics_of_every_epoch(with_events):
    _, folder = walk(with_events)
    found = curves(folder)
    assert found.keys() == {"loss/train", "loss/valid", "loss/test", "samples_per_second", "seconds"}
    rows = lines(folder)
    assert found["loss/train"] == [(row["epoch"], pytest.approx(row["train_loss"])) for row in rows]
    assert found["loss/valid"] == [(row["epoch"], pytest.approx(row["valid_loss"])) for row in rows]
    assert [step for step, _ in found["loss/test"]] == [3]


def test_a_resumed_run_continues_its_curves(with_events, monkeypatch):
    """Epoch 2 was logged but not saved: it is repeated, and its curve has it once."""
    with pytest.raises(KeyboardInterrupt):
        walk(with_events, stop_after=2)
    weights, folder = walk(replace(with_events, run=replace(with_events.run, resume=True)))
    assert [step for step, _ in curves(folder)["loss/train"]] == [1, 2, 3]
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2
    assert weights == walk(replace(with_events, run=replace(with_events.run, tensorboard=False)))[0]


def test_a_run_that_is_resumed_with_events_has_all_epochs(with_events):
    without = replace(with_events, run=replace(with_events.run, tensorboard=False))
    with pytest.raises(KeyboardInterrupt):
        walk(without, stop_after=1)
    _, folder = walk(replace(with_events, run=replace(with_events.run, resume=True)))
    assert [step for step, _ in curves(folder)["loss/train"]] == [1, 2, 3]


def test_a_missing_tensorboard_is_one_line(config, monkeypatch):
    monkeypatch.setattr("common.run_folders.events.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^--tensorboard: TensorBoard is not installed: pip install '\.\[tensor"):
        walk(replace(config, run=replace(config.run, tensorboard=True)))
    assert not config.run.out.exists(), "no folder is created"


def test_metrics_of_the_splits_are_side_by_side():
    names = ["train_loss", "valid_worst_class_accuracy", "images_per_second", "seconds", "test"]
    assert [tag(name) for name in names] == [
        *("loss/train", "worst_class_accuracy/valid", "images_per_second", "seconds", "test")
    ]
