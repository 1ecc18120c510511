"""Several processes take the same steps as one with the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common import distributed
from conftest import ROOT

WORDS = ["ch03_autoencoder_rbm.train", "feedforward", "--data", "digits", "--limit", "1024", "--batch-size", "128"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*/*/*/model.safetensors")
    return load_file(path)


@pytest.mark.slow
def test_two_processes_train_the_same_weights_as_one(command, tmp_path):
    words = [*WORDS, "--epochs", "1", "--precision", "fp32", "--device", "cpu", "--out"]
    alone = command(*words, str(tmp_path / "one"))
    assert alone.returncode == 0, alone.stderr
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    both = command(*torchrun, *words, str(tmp_path / "two"), OMP_NUM_THREADS="1")
    assert both.returncode == 0, both.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)
    assert both.stdout.count("epoch 1/1") == 1, "the second process prints too"
    assert "process 1 of 2" in both.stdout


def test_a_single_process_is_unaffected():
    model = torch.nn.Linear(2, 2)
    assert distributed.wrap(model) is model
    assert distributed.mean(3.0) == 3.0
    assert distributed.from_main("x") == "x"
    assert distributed.is_main()
    index = torch.arange(5)
    assert torch.equal(distributed.shard(index), index)


def test_processes_that_do_not_leave_the_group_end_cleanly(tmp_path):
    """Without `stop`, gloo aborts three of four such exits (`terminate called without an active exception`)."""
    script = """
import torch
from common import distributed
distributed.start(torch.device("cpu"))
for _ in range(20):
    torch.distributed.all_reduce(torch.ones(1000))
raise SystemExit(0)
"""
    (tmp_path / "program.py").write_text(script)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*words, tmp_path / "program.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_resume_as_if_never_interrupted(tmp_path):
    """Each process draws its own noise; a run that stops after epoch 2 of 4 ends with the same weights."""
    script = """
import sys
from pathlib import Path
from common import distributed, run
from common.config import RunOptions
from ch03_autoencoder_rbm.digits.autoencoder import Config, train
run.CHECKPOINT_SECONDS = 0
out, stop, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
log = run.Run.log
def stopping(self, **splits):
    if self._epoch == stop:
        sys.exit(0)
    log(self, **splits)
run.Run.log = stopping
options = RunOptions(device="cpu", precision="fp32", threads=1, limit=256, out=out, resume=resume)
train(Config(data="digits", epochs=4, noise=0.3, batch_size=64, run=options))
distributed.stop()
"""
    (tmp_path / "program.py").write_text(script)

    def run(*words):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        words = [*torchrun, str(tmp_path / "program.py"), *words]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    run(str(tmp_path / "whole"), "0", "new")
    run(str(tmp_path / "parts"), "3", "new")
    run(str(tmp_path / "parts"), "0", "resume")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_a_mistake_under_torchrun_ends_every_process(command, tmp_path):
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = command(*torchrun, *WORDS[:4], "--batch-size", "1", "--out", str(tmp_path), OMP_NUM_THREADS="1")
    assert done.returncode != 0
    assert "one sample for each of 2 processes, got 1" in done.stderr
    assert "common/cli.py" not in done.stderr, "a traceback of ours beside torchrun's own"
