"""Several processes take the same steps as one with the same global batch."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common import distributed

WORDS = ["ch03_autoencoder_rbm.train", "feedforward", "--data", "digits", "--limit", "1024", "--batch-size", "128"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*/*/*/model.safetensors")
    return load_file(path)


def test_two_processes_end_with_the_weights_of_one(command, tmp_path):
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


def test_a_single_process_is_left_alone():
    model = torch.nn.Linear(2, 2)
    assert distributed.wrap(model) is model
    assert distributed.mean(3.0) == 3.0
    assert distributed.from_main("x") == "x"
    assert distributed.is_main()
    index = torch.arange(5)
    assert torch.equal(distributed.shard(index), index)


@pytest.mark.slow
def test_a_mistake_under_torchrun_ends_every_process(command, tmp_path):
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = command(*torchrun, *WORDS[:4], "--batch-size", "1", "--out", str(tmp_path), OMP_NUM_THREADS="1")
    assert done.returncode != 0
    assert "one sample for each of 2 processes, got 1" in done.stderr
    assert "common/cli.py" not in done.stderr, "a traceback of ours beside torchrun's own"
